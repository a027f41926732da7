//! Names of tensors and groups: UTF-8 that C can borrow.

use std::ffi::{CStr, CString};

use crate::error::{Error, Result};

/// 1 to 1,024 bytes of UTF-8 without control characters, kept NUL-terminated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(CString);

impl Name {
    /// Longest name in bytes.
    pub const MAX: usize = 1024;

    /// Checks and copies `bytes`; `field` says in the error which name it was.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn new(field: &str, bytes: &[u8]) -> Result<Self> {
        let bad = |reason: String| Error::BadName { field: field.to_owned(), reason };
        if bytes.is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        if bytes.len() > Self::MAX {
            return Err(bad(format!("it is longer than {} bytes", Self::MAX)));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| bad(format!("byte {} is not UTF-8", e.valid_up_to())))?;
        if let Some((at, c)) = text.char_indices().find(|(_, c)| c.is_control()) {
            return Err(bad(format!("it has the control character U+{:04X} at byte {at}", u32::from(c))));
        }
        Ok(Self(CString::new(bytes).expect("NUL is a control character")))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("checked when it was made")
    }

    /// As a C string that lives as long as the name.
    #[must_use]
    pub fn as_c_str(&self) -> &CStr {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
