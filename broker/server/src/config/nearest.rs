//! What a mistyped name most likely meant.

/// ` (did you mean NAME?)`, or nothing: the known name that has most of its three-letter pieces in common with `name`, if
/// that is most of the pieces of both.
pub fn did_you_mean(name: &str, known: impl IntoIterator<Item = &'static str>) -> String {
    const ALIKE_PERCENT_MIN: usize = 60;
    let pieces: Vec<&[u8]> = name.as_bytes().windows(3).collect();
    let alike_percent = |known: &str| {
        let shared = known.as_bytes().windows(3).filter(|piece| pieces.contains(piece)).count();
        200 * shared / (pieces.len() + known.len().saturating_sub(2)).max(1)
    };
    match known.into_iter().map(|known| (alike_percent(known), known)).max() {
        Some((alike, best)) if alike >= ALIKE_PERCENT_MIN => format!(" (did you mean {best}?)"),
        _ => String::new(),
    }
}
