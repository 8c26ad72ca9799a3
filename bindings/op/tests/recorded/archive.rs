//! Files in a tar archive.

const BLOCK: usize = 512;

/// The names and the contents of all files.
pub(crate) fn files(archive: &[u8]) -> Vec<(&str, &[u8])> {
    let (mut rest, mut files) = (archive, Vec::new());
    while rest.len() >= BLOCK && rest[0] != 0 {
        let (header, content) = rest.split_at(BLOCK);
        let length = usize::from_str_radix(text(&header[124..136]).trim(), 8).expect("a length in octal digits");
        // Attributes of files have entries of their own, of another kind.
        if header[156] == b'0' {
            files.push((text(&header[..100]), &content[..length]));
        }
        rest = &content[length.next_multiple_of(BLOCK)..];
    }
    files
}

fn text(field: &[u8]) -> &str {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    std::str::from_utf8(&field[..end]).expect("a field of text")
}
