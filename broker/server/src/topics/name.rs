//! Which texts can be names of topics, by Kafka's rules.

/// Topics in which Kafka's tools expect groups and transactions to be kept; clients cannot write to them.
const INTERNAL_TOPICS: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// Why a text cannot be the name of a topic; Kafka's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// No text.
    #[error("the empty string is not allowed")]
    Empty,
    /// `.` and `..` are directories.
    #[error("'.' and '..' are not allowed")]
    Dots,
    /// More than a directory name holds together with the partition's number.
    #[error("the length of {0} characters is above the maximum of 249")]
    TooLong(usize),
    /// A character that is not allowed.
    #[error("it contains a character other than ASCII letters and digits, '.', '_' and '-'")]
    Character,
}

/// Checks the name of a topic.
pub fn check_topic_name(name: &str) -> Result<(), TopicNameError> {
    const LENGTH_MAX: usize = 249;
    if name.is_empty() {
        Err(TopicNameError::Empty)
    } else if name == "." || name == ".." {
        Err(TopicNameError::Dots)
    } else if name.len() > LENGTH_MAX {
        Err(TopicNameError::TooLong(name.chars().count()))
    } else if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        Ok(())
    } else {
        Err(TopicNameError::Character)
    }
}

/// Whether the broker alone writes to a topic of this name.
pub fn is_internal(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        for legal in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(check_topic_name(legal), Ok(()), "{legal}");
        }
        for (illegal, error) in [
            ("", TopicNameError::Empty),
            (".", TopicNameError::Dots),
            ("..", TopicNameError::Dots),
            ("a b", TopicNameError::Character),
            ("a/b", TopicNameError::Character),
            ("ä", TopicNameError::Character),
            (&"x".repeat(250), TopicNameError::TooLong(250)),
        ] {
            assert_eq!(check_topic_name(illegal), Err(error), "{illegal}");
        }
    }
}
