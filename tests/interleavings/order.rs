//! The orders in which the steps of several scripts can come.

/// A step: the number of its script, and its place there.
pub(crate) type Place = (usize, usize);

/// Every order of the steps of scripts of these lengths, each script's in its own order; of more than `most` as many, evenly
/// spread, where `most` isn't 0.
pub(crate) fn orders(lengths: &[usize], most: usize) -> Vec<Vec<Place>> {
    let all = count(lengths);
    let wanted = if most == 0 { all } else { all.min(most) };
    // A stride that has no divisor in common with the number of orders meets each once.
    let stride = (all / wanted.max(1)..=all).find(|stride| greatest_divisor(*stride, all) == 1).unwrap_or(1);
    (0..wanted).map(|number| order(lengths, number * stride % all)).collect()
}

/// How many orders there are: the multinomial of the lengths.
fn count(lengths: &[usize]) -> usize {
    let mut steps = 0;
    let mut count = 1;
    for length in lengths {
        for step in 1..=*length {
            steps += 1;
            count = count * steps / step;
        }
    }
    count
}

/// The order with a number, of those counted by which script comes first.
fn order(lengths: &[usize], mut number: usize) -> Vec<Place> {
    let mut left = lengths.to_vec();
    let mut order = Vec::new();
    while left.iter().any(|length| *length > 0) {
        for script in 0..left.len() {
            if left[script] == 0 {
                continue;
            }
            left[script] -= 1;
            let below = count(&left);
            if number < below {
                order.push((script, lengths[script] - left[script] - 1));
                break;
            }
            number -= below;
            left[script] += 1;
        }
    }
    order
}

fn greatest_divisor(one: usize, other: usize) -> usize {
    if other == 0 { one } else { greatest_divisor(other, one % other) }
}

#[test]
fn every_order_comes_once() {
    let all = orders(&[2, 1, 3], 0);
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), different.len()), (60, 60));
    for order in &all {
        let of_last: Vec<_> =
            order.iter().filter(|(script, _)| *script == 2).map(|(_, place)| *place).collect();
        assert_eq!(of_last, [0, 1, 2], "a script's steps keep their order");
    }
    let some = orders(&[4, 4, 4], 100);
    assert_eq!(some.iter().collect::<std::collections::BTreeSet<_>>().len(), 100);
}
