//! Text as people give it in flags: `name=value`, separators with escapes, a voter's address.

/// Reads `name=value`; both are trimmed of nothing, and the value may hold `=`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) | None => Err(format!("`{text}` is not of the form NAME=VALUE")),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
    }
}

/// Reads `KEY=VALUE` of a record header.
pub fn header(text: &str) -> Result<(String, String), String> {
    pair(text).map_err(|_| format!("`{text}` is not of the form KEY=VALUE"))
}

/// A separator, as bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Separator(pub Vec<u8>);

/// Reads a separator: any text, in which `\t`, `\n`, `\0` and `\\` stand for what they stand for everywhere.
pub fn separator(text: &str) -> Result<Separator, String> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let c = match c {
            '\\' => match rest.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('0') => '\0',
                Some('\\') => '\\',
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!("`\\{other}` is no escape: there are \\t, \\n, \\r, \\0 and \\\\"));
                }
            },
            c => c,
        };
        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    match bytes.is_empty() {
        true => Err("a separator has at least one character".into()),
        false => Ok(Separator(bytes)),
    }
}

impl Separator {
    /// The parts before and after the first occurrence in `line`.
    pub fn split<'a>(&self, line: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let at = line.windows(self.0.len()).position(|window| window == self.0)?;
        Some((&line[..at], &line[at + self.0.len()..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_split_at_the_first_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }

    #[test]
    fn separators_are_bytes_with_escapes() {
        assert_eq!(separator(r"\t"), Ok(Separator(vec![b'\t'])));
        assert_eq!(separator("::"), Ok(Separator(b"::".to_vec())));
        assert!(separator("").is_err() && separator(r"\x").is_err() && separator("\\").is_err());
        let colons = separator("::").unwrap();
        assert_eq!(colons.split(b"k::v::w"), Some((&b"k"[..], &b"v::w"[..])));
        assert_eq!(colons.split(b"k:v"), None);
        assert_eq!(colons.split(&[0xff, b':', b':']), Some((&[0xff][..], &b""[..])));
    }
}
