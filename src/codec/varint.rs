//! Whole numbers in as few bytes as they need: seven bits in each byte, the lowest first, as in Protocol Buffers.

/// Appends `number` to `out`: one byte below 128, ten at most.
pub fn push(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Takes a number from the beginning of `bytes`. None if they do not begin with one of 64 bits.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(*byte & 0x7f);
        number |= bits << shift;
        if *byte < 0x80 {
            return Some(number).filter(|number| *number >> shift == bits);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_comes_back_and_leaves_what_follows(bits in 0u32..=64, number in any::<u64>(), rest in any::<u8>()) {
            let number = number.checked_shr(bits).unwrap_or(0);
            let mut bytes = Vec::new();
            push(&mut bytes, number);
            prop_assert_eq!(bytes.len(), (64 - number.leading_zeros()).div_ceil(7).max(1) as usize);
            bytes.push(rest);
            let mut left = &*bytes;
            prop_assert_eq!((take(&mut left), left), (Some(number), &[rest][..]));
        }
    }

    #[test]
    fn what_is_cut_off_or_too_large_is_no_number() {
        for bytes in [&[][..], &[0x80], &[0xff; 9], &[0xff; 10], &[0xff; 11]] {
            assert_eq!(take(&mut &*bytes), None, "{bytes:?}");
        }
        let two_to_64 = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2];
        assert_eq!(take(&mut &two_to_64[..]), None);
    }
}
