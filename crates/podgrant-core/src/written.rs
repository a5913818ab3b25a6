//! What came of a write to a cluster's Kubernetes API.

/// It was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Done; the object is of this generation now.
    Done(i64),
    /// Not done: the object changed since it was read.
    Changed,
    /// Not done: there is none of that name.
    Gone,
}

/// It was not, or with a no; in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unwritten {
    /// It never left.
    NotSent(String),
    /// It was not done, and asking again changes nothing.
    Refused(String),
    /// It may have been done or not: the answer was lost, or late. What is there says it.
    Unsure(String),
}

impl Unwritten {
    pub fn why(&self) -> &str {
        match self {
            Self::NotSent(why) | Self::Refused(why) | Self::Unsure(why) => why,
        }
    }
}
