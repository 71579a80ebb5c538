//! The question and the answer: one script for all limits of a request.

use std::sync::Arc;
use std::time::Duration;

use palisade_policy::kind::rate_limit_policy::{Limit, Mode};
use redis::{Cmd, Value};

use super::super::{Asked, Standing};
use super::name::name;
use super::{Answer, Answers};

pub(super) const SOURCE: &str = include_str!("take.lua");

/// What is asked for one request.
#[derive(Debug)]
pub(super) struct Question {
    names: Vec<String>,
    numbers: Vec<u64>,
    /// The most that each limit can have left.
    most: Vec<u32>,
}

impl Question {
    pub(super) fn new(domain: &str, limits: &[&Arc<Limit>], asked: &Asked<'_>) -> Self {
        let names = limits.iter().map(|limit| name(domain, limit, asked)).collect();
        let numbers = limits.iter().flat_map(|limit| {
            let window = u64::try_from(limit.window.as_micros()).unwrap_or(u64::MAX);
            let refuses = u64::from(limit.mode == Mode::Enforce);
            let burst = limit.burst.unwrap_or(0).into();
            [limit.limit.into(), window, burst, limit.cost.max(1).into(), refuses]
        });
        let most = limits.iter().map(|limit| limit.burst.unwrap_or(limit.limit));
        Self { names, numbers: numbers.collect(), most: most.collect() }
    }

    /// A question that touches nobody's quota and needs all that real ones do.
    pub(super) fn probe(domain: &str) -> Self {
        let name = format!("palisade:{domain}:probe");
        Self {
            names: vec![name],
            numbers: vec![1_000_000_000, 1_000_000, 0, 1, 1],
            most: vec![1_000_000_000],
        }
    }

    /// `EVALSHA hash`, or `EVAL source`.
    pub(super) fn command(&self, verb: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(verb);
        command.arg(script).arg(self.names.len()).arg(&self.names).arg(&self.numbers);
        command
    }

    /// `None`: this is no answer to the question.
    pub(super) fn read(&self, value: &Value) -> Option<Answers> {
        let Value::Array(items) = value else { return None };
        let mut numbers = items.iter().map(|item| match item {
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        });
        let mut next = || numbers.next().flatten();
        let answers = self.most.iter().map(|most| read_one(next()?, next()?, next()?, *most));
        let answers: Answers = answers.collect::<Option<_>>()?;
        numbers.next().is_none().then_some(answers)
    }
}

fn read_one(room: u64, left: u64, micros: u64, most: u32) -> Option<Answer> {
    let time = Duration::from_micros(micros);
    match room {
        1 => {
            let remaining = u32::try_from(left).ok().filter(|left| *left < most)?;
            Some(Ok(Standing { remaining, back: time }))
        }
        0 => Some(Err(time)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ints(numbers: &[i64]) -> Value {
        Value::Array(numbers.iter().copied().map(Value::Int).collect())
    }

    fn two() -> Question {
        Question { names: Vec::new(), numbers: Vec::new(), most: vec![5, 10] }
    }

    #[test]
    fn reads_what_is_left_and_how_long_to_wait() {
        let answers = two().read(&ints(&[1, 4, 60_000_000, 0, 0, 1_500_000])).unwrap();
        let left = Standing { remaining: 4, back: Duration::from_secs(60) };
        assert_eq!(answers.to_vec(), [Ok(left), Err(Duration::from_millis(1500))]);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let rows = [
            ints(&[]),
            ints(&[1, 4, 60]),
            ints(&[1, 4, 60, 1, 9, 60, 1]),
            ints(&[2, 4, 60, 1, 9, 60]),
            ints(&[1, 5, 60, 1, 9, 60]),
            ints(&[1, -1, 60, 1, 9, 60]),
            ints(&[1, 4, -60, 1, 9, 60]),
            ints(&[1, i64::MAX, 60, 1, 9, 60]),
            Value::Okay,
            Value::Nil,
            Value::Int(1),
            Value::Array(vec![Value::Nil; 6]),
            Value::BulkString(b"1 4 60 1 9 60".to_vec()),
        ];
        for value in rows {
            assert_eq!(two().read(&value), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_whatever_it_says_leaves_more_than_the_limit(numbers in prop::collection::vec(any::<i64>(), 0..9)) {
            for (answer, most) in two().read(&ints(&numbers)).unwrap_or_default().iter().zip([5, 10]) {
                if let Ok(standing) = answer {
                    prop_assert!(standing.remaining < most);
                }
            }
        }
    }
}
