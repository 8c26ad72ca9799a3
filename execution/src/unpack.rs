//! Files' content, unpacked where it is compressed with zstd.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::FrameDecoder;

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// What is unpacked at once, in bytes.
const PIECE: usize = 1 << 17;

/// A reader of the content, whatever the file is called. Reading blocks on the file.
///
/// # Errors
/// Those of the file, [`io::ErrorKind::InvalidData`] where it is compressed in another way; so does reading, where it is damaged.
pub fn content<'r>(mut packed: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let start = packed.fill_buf()?;
    if start.starts_with(&GZIP) {
        return Err(invalid("the file is compressed with gzip; unpack it, or compress it with zstd"));
    }
    if start.starts_with(&ZSTD) {
        return Ok(Box::new(Unpacked { packed, decoder: FrameDecoder::new(), is_within_frame: false }));
    }
    Ok(Box::new(packed))
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// The content of the frames of a zstd file, one after the other.
struct Unpacked<R> {
    packed: R,
    decoder: FrameDecoder,
    is_within_frame: bool,
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBytes;
        let fail = |error: ruzstd::decoding::errors::FrameDecoderError| {
            invalid(format!("the file is no sound zstd file: {error}"))
        };
        loop {
            if self.decoder.can_collect() > 0 || buffer.is_empty() {
                return self.decoder.read(buffer);
            }
            if self.is_within_frame && !self.decoder.is_finished() {
                self.decoder.decode_blocks(&mut self.packed, UptoBytes(PIECE)).map_err(fail)?;
                continue;
            }
            if self.packed.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.decoder.init(&mut self.packed).map_err(fail)?;
            self.is_within_frame = true;
        }
    }
}
