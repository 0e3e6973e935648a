//! Which names a topic may have: Kafka's rule.
//!
//! Knows no topics that exist: the caller asks for each pair whether two names collide.

/// The longest legal name. With a partition's number behind it, it still is a legal file name.
pub const MAX_TOPIC_NAME_LEN: usize = 249;

/// Why a topic's name is not legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// It has no characters.
    #[error("a topic's name is not empty")]
    Empty,
    /// It is `.` or `..`.
    #[error("a topic's name is neither \".\" nor \"..\"")]
    Dots,
    /// It has more than [`MAX_TOPIC_NAME_LEN`] characters.
    #[error("a topic's name has at most 249 characters, this one has {0}")]
    TooLong(usize),
    /// It holds a character that is not allowed.
    #[error("a topic's name is made of ASCII letters, digits, '.', '_' and '-', not {0:?}")]
    Character(char),
}

/// Checks a name.
///
/// # Errors
/// Says which rule it breaks.
pub fn validate(name: &str) -> Result<(), TopicNameError> {
    if let Some(bad) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
        return Err(TopicNameError::Character(bad));
    }
    match name {
        "" => Err(TopicNameError::Empty),
        "." | ".." => Err(TopicNameError::Dots),
        _ if name.len() > MAX_TOPIC_NAME_LEN => Err(TopicNameError::TooLong(name.len())),
        _ => Ok(()),
    }
}

/// What two names share if they collide: in names of metrics '.' becomes '_', so `a.b` and `a_b` may not both exist.
pub fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}

/// Whether two names would collide; a name collides with itself.
pub fn collide(a: &str, b: &str) -> bool {
    let same = |(x, y): (u8, u8)| x == y || (matches!(x, b'.' | b'_') && matches!(y, b'.' | b'_'));
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(same)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        for legal in
            ["a", "my-replicated-topic", "__consumer_offsets", "a.b_c-D9", "...", "-", &"x".repeat(249)]
        {
            assert_eq!(validate(legal), Ok(()), "{legal}");
        }
        assert_eq!(validate(""), Err(TopicNameError::Empty));
        assert_eq!(validate("."), Err(TopicNameError::Dots));
        assert_eq!(validate(".."), Err(TopicNameError::Dots));
        assert_eq!(validate(&"x".repeat(250)), Err(TopicNameError::TooLong(250)));
        for (name, bad) in
            [("a/b", '/'), ("a b", ' '), ("ü", 'ü'), ("a\0", '\0'), ("../x", '/'), ("a:1", ':')]
        {
            assert_eq!(validate(name), Err(TopicNameError::Character(bad)));
        }
    }

    #[test]
    fn dots_and_underscores_collide() {
        assert!(collide("a.b", "a_b") && collide("a.b", "a.b"));
        assert!(!collide("a-b", "a_b") && !collide("a.b", "a.bc"));
    }

    proptest! {
        #![proptest_config(crate::testing::same_every_run())]

        #[test]
        fn colliding_is_having_one_key(a in "[a._-]{1,4}", b in "[a._-]{1,4}") {
            prop_assert_eq!(collide(&a, &b), collision_key(&a) == collision_key(&b));
        }

        #[test]
        fn any_text_is_judged(name: String) {
            let _ = validate(&name);
        }
    }
}
