//! Orders of result series.

use std::cmp::Ordering;

use super::Series;
use super::scalar::nan_first;

/// Sorts by the float of step 0, NaN last. Series with a histogram there are removed.
pub fn sort(series: &mut Vec<Series>, descending: bool) {
    series.retain(|s| s.points.float(0).is_some());
    let value = |s: &Series| s.points.float(0).unwrap_or(f64::NAN);
    series.sort_by(|a, b| {
        let (a, b) = (value(a), value(b));
        match (a.is_nan(), b.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ if descending => nan_first(b, a),
            _ => nan_first(a, b),
        }
    });
}

/// Sorts by the values of the labels `names` in natural order (numbers inside text by value), then by all labels.
pub fn sort_by_label(series: &mut [Series], names: &[String], descending: bool) {
    series.sort_by(|a, b| {
        for name in names {
            let (x, y) = (a.labels.get(name).unwrap_or(""), b.labels.get(name).unwrap_or(""));
            if x != y {
                let order = natural(x, y);
                return if descending { order.reverse() } else { order };
            }
        }
        let order = a.labels.cmp(&b.labels);
        if descending { order.reverse() } else { order }
    });
}

/// Natural order: runs of digits compare by value, everything else by bytes.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.as_bytes(), b.as_bytes());
    loop {
        match (x.first(), y.first()) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(p), Some(q)) if p.is_ascii_digit() && q.is_ascii_digit() => {
                let (m, rest_x) = digits(x);
                let (n, rest_y) = digits(y);
                let order = m.len().cmp(&n.len()).then_with(|| m.cmp(n));
                if order != Ordering::Equal {
                    return order;
                }
                (x, y) = (rest_x, rest_y);
            }
            (Some(p), Some(q)) => {
                if p != q {
                    return p.cmp(q);
                }
                (x, y) = (&x[1..], &y[1..]);
            }
        }
    }
}

/// The leading digits without zeros in front, and the rest.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let zeros = text[..end].iter().position(|b| *b != b'0').unwrap_or(end);
    (&text[zeros..end], &text[end..])
}
