//! The blobs that are bound with a plugin: schemas and tables.

/// Assets by name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Assets<'a>(&'a [(String, Vec<u8>)]);

impl<'a> Assets<'a> {
    /// Those that the host gave.
    pub fn of(assets: &'a [(String, Vec<u8>)]) -> Self {
        Self(assets)
    }

    /// The asset of this name. The host gives each that the manifest asks for.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, bytes)| &bytes[..])
    }
}
