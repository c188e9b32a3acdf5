//! The identity of an alert: 16 hex digits of FNV-1a over its sorted labels, as Alertmanager prints it.

use trefoil_model::Labels;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;
const SEPARATOR: u8 = 0xff;

/// The fingerprint of a label set.
pub fn fingerprint(labels: &Labels) -> u64 {
    let mut hash = OFFSET;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    for (name, value) in labels {
        name.bytes().for_each(&mut add);
        add(SEPARATOR);
        value.bytes().for_each(&mut add);
        add(SEPARATOR);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_set_has_the_offset_basis() {
        assert_eq!(format!("{:016x}", fingerprint(&Labels::empty())), "cbf29ce484222325");
    }

    #[test]
    fn order_of_labels_does_not_matter() {
        let a = Labels::from_pairs([("a", "1"), ("b", "2")]);
        let b = Labels::from_pairs([("b", "2"), ("a", "1")]);
        assert_eq!(fingerprint(&a), fingerprint(&b));
        assert_ne!(fingerprint(&a), fingerprint(&Labels::from_pairs([("a", "12"), ("b", "")])));
    }
}
