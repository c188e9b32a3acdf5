//! `ip("…")`: addresses, ranges and CIDR blocks within text.

use std::net::IpAddr;

/// What `ip()` matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IpMatcher {
    first: u128,
    last: u128,
    v4: bool,
}

impl IpMatcher {
    /// Parses `10.0.0.1`, `10.0.0.0/8`, `10.0.0.1-10.0.0.9`, likewise for version 6.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("invalid ip pattern {text:?}: expected an address, a range or a CIDR block");
        let address = |t: &str| t.trim().parse::<IpAddr>().map_err(|_| bad());
        if let Some((base, bits)) = text.split_once('/') {
            let base = address(base)?;
            let width = if base.is_ipv4() { 32u32 } else { 128 };
            let bits: u32 = bits.trim().parse().ok().filter(|b| *b <= width).ok_or_else(bad)?;
            let mask = u128::MAX.checked_shl(width - bits).unwrap_or(0) & (u128::MAX >> (128 - width));
            let first = number(base) & mask;
            return Ok(Self { first, last: first | (!mask & (u128::MAX >> (128 - width))), v4: base.is_ipv4() });
        }
        if let Some((from, to)) = text.split_once('-') {
            let (from, to) = (address(from)?, address(to)?);
            if from.is_ipv4() != to.is_ipv4() || number(from) > number(to) {
                return Err(bad());
            }
            return Ok(Self { first: number(from), last: number(to), v4: from.is_ipv4() });
        }
        let only = address(text)?;
        Ok(Self { first: number(only), last: number(only), v4: only.is_ipv4() })
    }

    fn holds(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.v4 && (self.first..=self.last).contains(&number(address))
    }

    /// True when some address in the text matches.
    pub(crate) fn found_in(&self, text: &str) -> bool {
        let wanted = |c: char| {
            if self.v4 { c.is_ascii_digit() || c == '.' } else { c.is_ascii_hexdigit() || matches!(c, ':' | '.') }
        };
        text.split(|c| !wanted(c)).any(|run| {
            let run = run.trim_end_matches('.');
            if self.v4 {
                return run.len() >= 7 && run.parse::<IpAddr>().is_ok_and(|a| self.holds(a));
            }
            // A port or a colon may stick to the address.
            let tries = [run, run.trim_end_matches(':')];
            run.contains(':') && tries.iter().any(|t| t.parse::<IpAddr>().is_ok_and(|a| self.holds(a)))
        })
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_addresses() {
        let check = |pattern: &str, text: &str, want: bool| {
            assert_eq!(IpMatcher::parse(pattern).unwrap().found_in(text), want, "{pattern} {text}");
        };
        check("10.0.0.0/8", "from 10.1.2.3:80, ok", true);
        check("10.0.0.0/8", "from 11.1.2.3", false);
        check("0.0.0.0/0", "x=1.2.3.4.", true);
        check("10.0.0.1-10.0.0.9", "10.0.0.10", false);
        check("2001:db8::/32", "a 2001:db8::7: b", true);
        check("::1", "[::1]:80", true);
        for bad in ["300.1.1.1", "10.0.0.0/33", "a-b", "10.0.0.9-10.0.0.1", ""] {
            assert!(IpMatcher::parse(bad).is_err(), "{bad}");
        }
    }
}
