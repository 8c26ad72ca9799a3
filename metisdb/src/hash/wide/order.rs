//! Which messages go side by side.

use super::permutations;

/// Messages that need so many permutations or more are rare, and keep their order.
const LONG: usize = 64;

/// The messages' numbers, those first that need most permutations; a counting sort.
pub(super) fn longest_first(messages: &[&[u8]]) -> Vec<usize> {
    let mut counts = [0; LONG];
    for message in messages {
        counts[bucket(message)] += 1;
    }
    // All keys of a kind have the same length: nothing to sort.
    if counts.contains(&messages.len()) {
        return (0..messages.len()).collect();
    }
    let mut next = counts;
    let mut end = 0;
    for (next, count) in next.iter_mut().zip(counts) {
        *next = end;
        end += count;
    }
    let mut order = vec![0; messages.len()];
    for (index, message) in messages.iter().enumerate() {
        let next = &mut next[bucket(message)];
        order[*next] = index;
        *next += 1;
    }
    order
}

/// The more permutations, the lower.
fn bucket(message: &[u8]) -> usize {
    LONG - permutations(message).min(LONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_messages_come_first_and_equals_keep_their_order() {
        let data = [0; 20_000];
        let messages: Vec<&[u8]> =
            [0, 135, 136, 20_000, 300, 1, 8_568, 136, 12_000].map(|length| &data[..length]).to_vec();
        assert_eq!(longest_first(&messages), [3, 6, 8, 4, 2, 7, 0, 1, 5]);
        assert_eq!(longest_first(&messages[..2]), [0, 1]);
        assert!(longest_first(&[]).is_empty());
    }
}
