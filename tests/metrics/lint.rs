//! The text format of Prometheus, read as strictly as `promtool check metrics` reads it: the syntax of expfmt and the rules
//! of promlint.

use std::collections::{BTreeMap, BTreeSet};

/// One line with a value.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Its name, suffixes included.
    pub(crate) name: String,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its value.
    pub(crate) value: f64,
}

/// A page that was read.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Name and type of each family, in the order of the page.
    pub(crate) families: Vec<(String, String)>,
    /// Every sample.
    pub(crate) samples: Vec<Sample>,
    /// What is wrong with it.
    pub(crate) wrong: Vec<String>,
}

/// Units of promlint's list that are not base units.
const OTHER_UNITS: [&str; 10] = [
    "milliseconds",
    "microseconds",
    "nanoseconds",
    "minutes",
    "hours",
    "kilobytes",
    "megabytes",
    "kibibytes",
    "mebibytes",
    "percent",
];
/// Ends of names that promlint takes for abbreviated units.
const ABBREVIATIONS: [&str; 14] = ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"];

impl Page {
    /// Reads a page.
    pub(crate) fn read(text: &str) -> Page {
        let mut page = Page::default();
        let mut helped = BTreeSet::new();
        let mut seen = BTreeSet::new();
        if !text.ends_with('\n') {
            page.wrong.push("the last line has no end".to_owned());
        }
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').unwrap_or((help, ""));
                if words.trim().is_empty() || !helped.insert(name.to_owned()) {
                    page.wrong.push(format!("{name}: one help text is wanted"));
                }
            } else if let Some(of_type) = line.strip_prefix("# TYPE ") {
                let (name, kind) = of_type.split_once(' ').unwrap_or((of_type, ""));
                if !helped.contains(name) {
                    page.wrong.push(format!("{name}: no help text before its type"));
                }
                page.family(name, kind);
            } else if !line.starts_with('#') {
                match sample(line) {
                    Some(sample) => {
                        if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                            page.wrong.push(format!("twice: {line}"));
                        }
                        page.belongs(&sample);
                        page.samples.push(sample);
                    }
                    None => page.wrong.push(format!("not a sample: {line:?}")),
                }
            }
        }
        page.histograms();
        page
    }

    fn family(&mut self, name: &str, kind: &str) {
        let mut complain = |what: &str| self.wrong.push(format!("{name}: {what}"));
        if !["counter", "gauge", "histogram"].contains(&kind) {
            complain(&format!("{kind:?} is no type"));
        }
        if (kind == "counter") != name.ends_with("_total") {
            complain("counters and nothing else end in _total");
        }
        if name.chars().any(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')) {
            complain("small letters, digits and _ are wanted");
        }
        let words: Vec<&str> = name.split('_').collect();
        if words.iter().any(|word| OTHER_UNITS.contains(word)) {
            complain("seconds and bytes are wanted");
        }
        if words.last().is_some_and(|word| ABBREVIATIONS.contains(word)) {
            complain("its unit is abbreviated");
        }
        if words.iter().any(|word| ["counter", "gauge", "histogram", "summary"].contains(word)) {
            complain("its type is in its name");
        }
        if ["_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end)) {
            complain("its name ends as a part of a histogram");
        }
        if self.families.iter().any(|(known, _)| known == name) {
            complain("two families have this name");
        }
        self.families.push((name.to_owned(), kind.to_owned()));
    }

    /// A sample stands behind the head of its own family.
    fn belongs(&mut self, sample: &Sample) {
        let belongs = self.families.last().is_some_and(|(name, kind)| match kind.as_str() {
            "histogram" => sample.name.strip_prefix(name.as_str()).is_some_and(|end| {
                let has_bound = sample.labels.contains_key("le");
                (end == "_bucket" && has_bound) || (["_sum", "_count"].contains(&end) && !has_bound)
            }),
            _ => sample.name == *name && !sample.labels.contains_key("le"),
        });
        if !belongs {
            self.wrong.push(format!("{}: not behind the head of its family", sample.name));
        }
        if sample.labels.keys().any(|label| label.chars().any(char::is_uppercase)) {
            self.wrong.push(format!("{}: labels are written small", sample.name));
        }
    }

    /// Buckets rise, the last one is `+Inf` and as large as the count.
    fn histograms(&mut self) {
        let mut series: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
        let mut counts = BTreeMap::new();
        for Sample { name, labels, value } in &self.samples {
            let mut labels = labels.clone();
            if let (Some(name), Some(bound)) = (name.strip_suffix("_bucket"), labels.remove("le")) {
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap_or(f64::NAN) };
                series.entry((name.to_owned(), labels)).or_default().push((bound, *value));
            } else if let Some(name) = name.strip_suffix("_count") {
                counts.insert((name.to_owned(), labels), *value);
            }
        }
        for (key, buckets) in series {
            let rises = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            let last = buckets.last().copied();
            if !rises || last != counts.get(&key).map(|count| (f64::INFINITY, *count)) {
                self.wrong.push(format!("{}: buckets {buckets:?}, count {:?}", key.0, counts.get(&key)));
            }
        }
    }

    /// The sum of the samples of this name that have these labels among theirs; none where there is no such sample.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| {
            let label = |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|it| it == value);
            sample.name == name && labels.iter().all(label)
        };
        let values: Vec<f64> = self.samples.iter().filter(has).map(|sample| sample.value).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = after.char_indices();
            let close = loop {
                match chars.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next()?.1 {
                        'n' => '\n',
                        other @ ('\\' | '"') => other,
                        _ => return None,
                    }),
                    (_, other) => value.push(other),
                }
            };
            labels.insert(key.to_owned(), value);
            rest = after.get(close + 1..)?;
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = match rest.strip_prefix(' ')? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        text => text.parse().ok().filter(|value: &f64| value.is_finite())?,
    };
    Some(Sample { name: name.to_owned(), labels, value })
}
