//! `FILE_CHECK`: the number in a file, which somebody else writes.

use std::path::PathBuf;

use super::{Failure, Found};
use crate::vrrp::track;

/// A file whose number is added to a real server's weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCheck {
    /// The file; what is no number, or no file, is 0.
    pub path: PathBuf,
    /// How much one weighs; with 0, any other number than 0 is a failure.
    pub weight: i32,
    /// Turns the weight's sign around; with weight 0, the number 0 is the failure.
    pub reverse: bool,
    /// The number that it gets at the start, and whether that replaces another.
    pub initial: Option<(i64, bool)>,
}

/// At and below this sum the real server is down, as in keepalived.
const DOWN: i64 = i32::MIN as i64;

impl FileCheck {
    /// Writes the file's first number.
    pub(super) async fn prepare(&self) {
        track::prepare(&self.path, self.initial).await;
    }

    pub(super) async fn make(&self) -> Result<Found, Failure> {
        let number = track::read(&self.path).await;
        match self.adds(number.into()) {
            Some(added) => Ok(Found {
                added: Some(added),
                ..Found::default()
            }),
            None => {
                let path = self.path.display();
                Err(Failure::Wrong(format!("{path} says {number}")))
            }
        }
    }

    /// What a number adds to the weight; none if it is a failure.
    fn adds(&self, number: i64) -> Option<i64> {
        if self.weight == 0 {
            return ((number != 0) == self.reverse).then_some(0);
        }
        let sum = i64::from(self.weight) * number;
        let sum = if self.reverse { -sum } else { sum };
        (sum > DOWN).then_some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::FileCheck;

    #[test]
    fn numbers_weigh_as_keepalived_has_it() {
        let adds = |weight, reverse, number| {
            FileCheck {
                path: "/none".into(),
                weight,
                reverse,
                initial: None,
            }
            .adds(number)
        };
        assert_eq!(adds(3, false, 7), Some(21));
        assert_eq!(adds(3, true, 7), Some(-21));
        assert_eq!(adds(-3, true, 7), Some(21));
        assert_eq!(adds(0, false, 0), Some(0));
        assert_eq!(adds(0, false, 5), None);
        assert_eq!(adds(0, true, 0), None);
        assert_eq!(adds(0, true, -1), Some(0));
        assert_eq!(adds(1, false, i64::from(i32::MIN)), None);
        assert_eq!(adds(i32::MAX, false, i64::from(i32::MIN)), None);
    }
}
