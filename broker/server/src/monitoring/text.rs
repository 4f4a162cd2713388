//! The text format of Prometheus, version 0.0.4, which every tool that scrapes reads and `promtool check metrics` checks.

use std::fmt::{Display, Write};

use ottla_log::Distribution;

/// The type of a page for HTTP.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names and values of labels.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// A page in the making: families one after the other, the samples of each behind its head.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    /// The whole page.
    pub(crate) fn finish(self) -> String {
        self.0
    }

    /// A family of numbers that rise and fall.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        self.head(name, "gauge", help);
        for (labels, value) in values {
            self.sample(name, "", &labels, None, number(value));
        }
    }

    /// A family of numbers that only rise. Its name ends in `_total`.
    pub(crate) fn counter(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        self.head(name, "counter", help);
        for (labels, value) in values {
            self.sample(name, "", &labels, None, value);
        }
    }

    /// The same with fractions.
    pub(crate) fn fraction_counter(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, "counter", help);
        self.sample(name, "", &[], None, number(value));
    }

    /// A family of distributions.
    pub(crate) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, Distribution)>,
    ) {
        self.head(name, "histogram", help);
        for (labels, Distribution { buckets, count, sum }) in values {
            let mut below = 0;
            for (bound, in_bucket) in buckets {
                below += in_bucket;
                self.sample(name, "_bucket", &labels, Some(&number(bound)), below);
            }
            self.sample(name, "_bucket", &labels, Some("+Inf"), count);
            self.sample(name, "_sum", &labels, None, number(sum));
            self.sample(name, "_count", &labels, None, count);
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a text cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, end: &str, labels: &[(&str, String)], bound: Option<&str>, value: impl Display) {
        let text = &mut self.0;
        text.push_str(name);
        text.push_str(end);
        let labels = labels.iter().map(|(key, value)| (*key, value.as_str())).chain(bound.map(|bound| ("le", bound)));
        let mut open = '{';
        for (key, value) in labels {
            let _ = write!(text, "{open}{key}=\"");
            for c in value.chars() {
                match c {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    c => text.push(c),
                }
            }
            text.push('"');
            open = ',';
        }
        if open == ',' {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

/// A number in decimal digits, as the shortest text that reads back as it.
fn number(value: f64) -> String {
    if value.is_finite() {
        value.to_string()
    } else if value.is_nan() {
        "NaN".to_owned()
    } else {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut page = Page::default();
        page.gauge("a", "What \\ it\nis", [(vec![("path", "a\"b\\c\nd".to_owned()), ("x", "é".to_owned())], 0.5)]);
        page.counter("b_total", "Many", [(Labels::new(), u64::MAX)]);
        let distribution = Distribution { buckets: vec![(0.1, 2), (1.0, 3)], count: 6, sum: 9.5 };
        page.histogram("c_seconds", "Long", [(vec![("api", "Fetch".to_owned())], distribution)]);
        let expected = "\
# HELP a What \\\\ it\\nis
# TYPE a gauge
a{path=\"a\\\"b\\\\c\\nd\",x=\"é\"} 0.5
# HELP b_total Many
# TYPE b_total counter
b_total 18446744073709551615
# HELP c_seconds Long
# TYPE c_seconds histogram
c_seconds_bucket{api=\"Fetch\",le=\"0.1\"} 2
c_seconds_bucket{api=\"Fetch\",le=\"1\"} 5
c_seconds_bucket{api=\"Fetch\",le=\"+Inf\"} 6
c_seconds_sum{api=\"Fetch\"} 9.5
c_seconds_count{api=\"Fetch\"} 6
";
        assert_eq!(page.finish(), expected);
    }

    #[test]
    fn numbers_are_written_without_an_exponent() {
        let shown = [1e21, 0.000_1, -1.0, f64::INFINITY, f64::NAN].map(number);
        assert_eq!(shown, ["1000000000000000000000", "0.0001", "-1", "+Inf", "NaN"]);
    }
}
