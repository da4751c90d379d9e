//! A strict reader of the text that [`Prometheus`](super::Prometheus) writes, for the tests of everybody who exports.
//!
//! It accepts less than a Prometheus server does: every family has help and a type, in this order, and then all of its samples;
//! counters end in `_total`; the buckets of a histogram grow and end with all that there is; no sample comes twice.

use std::collections::{BTreeMap, BTreeSet};

/// One line.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// The whole name, `_bucket` and the like included.
    pub name: String,
    /// In the order in which they stand there.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
}

/// All samples of a text, if it is right.
///
/// # Errors
/// The first line that is not, and why.
pub fn check(text: &str) -> Result<Vec<Sample>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    let (mut samples, mut families, mut seen) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut help: Option<String> = None;
    let mut family: Option<(String, String)> = None;
    for line in text.lines() {
        let wrong = |why: &str| format!("{why}: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, sentence) = rest.split_once(' ').ok_or_else(|| wrong("help without text"))?;
            if sentence.is_empty() || help.is_some() {
                return Err(wrong("no help, or help twice"));
            }
            help = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
            if help.take().as_deref() != Some(name) {
                return Err(wrong("a type without its help"));
            }
            if !is_name(name) || !families.insert(name.to_owned()) {
                return Err(wrong("not a name, or a family in two places"));
            }
            if !["counter", "gauge", "histogram"].contains(&kind) || (kind == "counter") != name.ends_with("_total") {
                return Err(wrong("not a type, or a name of another type"));
            }
            family = Some((name.to_owned(), kind.to_owned()));
        } else {
            let sample = sample(line).map_err(|why| wrong(&why))?;
            let (name, kind) = family.as_ref().ok_or_else(|| wrong("a sample of no family"))?;
            let suffix = sample.name.strip_prefix(name.as_str()).ok_or_else(|| wrong("a sample of another family"))?;
            let fits =
                if kind == "histogram" { ["_bucket", "_sum", "_count"].contains(&suffix) } else { suffix.is_empty() };
            if !fits || (kind == "counter" && (sample.value < 0.0 || !sample.value.is_finite())) || help.is_some() {
                return Err(wrong("not a sample of its family"));
            }
            if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(wrong("a sample twice"));
            }
            samples.push(sample);
        }
    }
    if help.is_some() {
        return Err("help without a type".to_owned());
    }
    check_histograms(&samples)?;
    Ok(samples)
}

fn check_histograms(samples: &[Sample]) -> Result<(), String> {
    type Labels = Vec<(String, String)>;
    let mut buckets: BTreeMap<(String, Labels), Vec<(f64, f64)>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
        let mut labels = sample.labels.clone();
        let (_, bound) =
            labels.pop().filter(|(label, _)| label == "le").ok_or("a bucket without its bound at the end")?;
        let bound = number(&bound).ok_or("a bound that is no number")?;
        let name = sample.name.trim_end_matches("_bucket").to_owned();
        buckets.entry((name, labels)).or_default().push((bound, sample.value));
    }
    for ((name, labels), buckets) in buckets {
        let of = |suffix: &str| {
            let full = format!("{name}{suffix}");
            samples.iter().find(|sample| sample.name == full && sample.labels == labels).map(|sample| sample.value)
        };
        let grow = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let ends = buckets.last().is_some_and(|(bound, count)| *bound == f64::INFINITY && Some(*count) == of("_count"));
        if !grow || !ends || of("_sum").is_none() {
            return Err(format!("the buckets of {name} {labels:?} are not those of a histogram: {buckets:?}"));
        }
    }
    Ok(())
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name) {
        return Err("not a name".to_owned());
    }
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, quoted) = rest.split_once("=\"").ok_or("a label without a value")?;
            if !is_name(label) || label.contains(':') || labels.iter().any(|(other, _)| other == label) {
                return Err("not the name of a label, or one twice".to_owned());
            }
            let (value, after) = unquote(quoted)?;
            labels.push((label.to_owned(), value));
            rest = after;
            match rest.as_bytes().first() {
                Some(b',') => rest = &rest[1..],
                Some(b'}') => break rest = &rest[1..],
                _ => return Err("labels that do not end".to_owned()),
            }
        }
    }
    let value = rest.strip_prefix(' ').and_then(number).ok_or("not a value")?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// The text before the closing quote, and what comes after that.
fn unquote(quoted: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => value.push(match characters.next() {
                Some((_, 'n')) => '\n',
                Some((_, same @ ('\\' | '"'))) => same,
                _ => return Err("an escape that is none".to_owned()),
            }),
            other => value.push(other),
        }
    }
    Err("a value that does not end".to_owned())
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ if text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte)) => text.parse().ok(),
        _ => None,
    }
}

fn is_name(name: &str) -> bool {
    let may_begin = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    name.bytes().next().is_some_and(may_begin) && name.bytes().all(|byte| may_begin(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_right_is_rejected() {
        let head = "# HELP a_total Text.\n# TYPE a_total counter\n";
        assert_eq!(check(&format!("{head}a_total 1\na_total{{b=\"c\"}} 2.5e1\n")).map(|samples| samples.len()), Ok(2));
        for lines in [
            "a_total 1",
            "b 1\n",
            "a_total -1\n",
            "a_total NaN\n",
            "a_total 1\na_total 2\n",
            "a_total 1 2\n",
            "a_total{} 1\n",
            "a_total{b=\"c} 1\n",
            "a_total{b=\"\\c\"} 1\n",
            "a_total{b=\"c\",b=\"d\"} 1\n",
            "a_total inf\n",
            "# TYPE b gauge\n",
            "# HELP b Text.\n# TYPE b counter\nb 1\n",
            "# HELP b Text.\n# TYPE b histogram\nb 1\n",
            "# HELP b Text.\n# TYPE b histogram\nb_bucket{le=\"1\"} 1\nb_sum 1\nb_count 1\n",
            "# HELP b Text.\n# TYPE b histogram\nb_bucket{le=\"1\"} 2\nb_bucket{le=\"+Inf\"} 1\nb_sum 1\nb_count 1\n",
            "# HELP b Text.\n# TYPE b histogram\nb_bucket{le=\"+Inf\"} 1\nb_count 1\n",
            "# HELP b Text.\n",
        ] {
            assert!(check(&format!("{head}{lines}")).is_err(), "{lines}");
        }
    }
}
