//! Sets of a Job's indexes as text: `1,3-5,7`.

/// The interval that a part of the text stands for, below `completions`.
fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let number = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(index) if index >= completions => Err(format!("too large index: {text:?}")),
        Ok(index) => Ok(index),
    };
    let Some((first, last)) = text.split_once('-') else {
        return number(text).map(|index| (index, index));
    };
    if last.contains('-') {
        return Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts \
             separated by '-'"
        ));
    }
    match (number(first)?, number(last)?) {
        (first, last) if first >= last => Err(order(first, last)),
        interval => Ok(interval),
    }
}

fn order(previous: i64, current: i64) -> String {
    format!("non-increasing order, previous: {previous}, current: {current}")
}

/// How many indexes a text names, or what is wrong with it in Kubernetes' words.
pub fn count(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut total, mut previous) = (0, None);
    for part in text.split(',') {
        let (first, last) = interval(part, completions)?;
        if let Some(previous) = previous.filter(|previous| *previous >= first) {
            return Err(order(previous, first));
        }
        total += last - first + 1;
        previous = Some(last);
    }
    Ok(total)
}

/// The first index that both texts name. Parts that are no intervals are skipped.
pub fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let intervals = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (ours, theirs) = (intervals(one), intervals(other));
    let (mut a, mut b) = (ours.iter().peekable(), theirs.iter().peekable());
    while let (Some((a_first, a_last)), Some((b_first, b_last))) = (a.peek(), b.peek()) {
        if a_first <= b_last && b_first <= a_last {
            return Some(*a_first.max(b_first));
        }
        if a_first <= b_first {
            a.next()
        } else {
            b.next()
        };
    }
    None
}
