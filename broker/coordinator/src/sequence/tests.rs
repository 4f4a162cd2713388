//! The conversations of `sequences.txt`, and properties.

#![allow(clippy::disallowed_methods, reason = "a flag of the test rewrites the conversation")]

use std::fmt::Write as _;

use super::*;

/// A batch of a conversation: its number, and whether it is in the log yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Numbered {
    number: i32,
    landed: bool,
}

/// What a snapshot says of a producer.
fn snapshot(table: &SequenceTable<Numbered>, id: ProducerId) -> String {
    let landed = |batch: &Numbered| batch.landed.then_some(batch.number);
    let Some(producer) = table.get(id).and_then(|producer| producer.settled(landed)) else {
        return "nothing".to_owned();
    };
    let mut told = format!("e{} up to {}", producer.tail.epoch.get(), producer.tail.last.get());
    for batch in &producer.batches {
        let _ = write!(told, ", batch {}", batch.place);
    }
    told
}

/// Replays the left sides of a conversation and writes the right sides.
fn replay(conversation: &str) -> String {
    let mut table = SequenceTable::default();
    let mut taken = 0;
    let mut transcript = String::new();
    for line in conversation.lines() {
        let Some((question, _)) = line.split_once(" = ") else {
            if line.trim().is_empty() {
                (table, taken) = (SequenceTable::default(), 0);
            }
            let _ = writeln!(transcript, "{line}");
            continue;
        };
        let numbers: Vec<i64> = question
            .split(|c: char| !c.is_ascii_digit())
            .filter(|digits| !digits.is_empty())
            .map(|digits| digits.parse().unwrap())
            .collect();
        if let [id] = numbers[..] {
            let _ = writeln!(transcript, "{question} = {}", snapshot(&table, ProducerId(id)));
            continue;
        }
        let [id, epoch, first, last] = numbers[..] else { panic!("{line}") };
        let (first, last) = (Sequence(first as i32), Sequence(last as i32));
        let span = Span { epoch: ProducerEpoch(epoch as i16), first, last };
        let answer = match table.check(ProducerId(id), span) {
            Ok(Check::Next(_)) => {
                taken += 1;
                let landed = !question.ends_with(" waits");
                table.take(ProducerId(id), span, Numbered { number: taken, landed }, 0);
                format!("batch {taken}")
            }
            Ok(Check::Duplicate(Numbered { number, .. })) if question.ends_with(" landed") => {
                table.settle(ProducerId(id), span, Numbered { number, landed: true });
                format!("batch {number}")
            }
            Ok(Check::Duplicate(Numbered { number, .. })) => format!("batch {number} again"),
            Err(error) => format!("{} {error}", error.error_code().code()),
        };
        let _ = writeln!(transcript, "{question} = {answer}");
    }
    transcript
}

/// The conversations of `sequences.txt` hold word by word. `OTTLA_GOLDEN=write` writes them anew, for
/// review as text.
#[test]
fn conversations_hold() {
    let golden = include_str!("sequences.txt");
    let transcript = replay(golden);
    if std::env::var("OTTLA_GOLDEN").is_ok_and(|value| value == "write") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sequence/sequences.txt");
        std::fs::write(path, &transcript).unwrap();
    }
    assert_eq!(transcript, golden);
}

#[test]
fn a_count_becomes_a_span_that_may_wrap() {
    let span = Span::new(ProducerEpoch(0), Sequence(i32::MAX - 1), 4);
    assert_eq!((span.first, span.last), (Sequence(i32::MAX - 1), Sequence(1)));
}

#[test]
fn a_settled_batch_answers_its_retry_from_its_new_place() {
    let mut table = SequenceTable::default();
    let span = Span::new(ProducerEpoch(3), Sequence(0), 10);
    table.take(ProducerId(1), span, "waiting", 0);
    assert!(table.settle(ProducerId(1), span, "stored"));
    assert_eq!(table.check(ProducerId(1), span), Ok(Check::Duplicate("stored")));
    let other = Span { last: Sequence(3), ..span };
    assert!(!table.settle(ProducerId(1), other, "lost"));
    let later = Span { epoch: ProducerEpoch(4), ..span };
    assert!(!table.settle(ProducerId(1), later, "lost"));
}

#[test]
fn numbers_that_were_given_back_are_the_next_again() {
    let mut table = SequenceTable::default();
    let (id, epoch) = (ProducerId(1), ProducerEpoch(3));
    let span = |first| Span::new(epoch, Sequence(first), 10);
    let tail = |last| Some(Tail { epoch, last: Sequence(last) });
    table.take(id, span(0), "kept", 0);
    table.take(id, span(10), "failed", 0);
    // Only the last one can be: what follows a batch has to go before it.
    table.give_back(id, span(0), None);
    assert_eq!(table.tail(id), tail(19));
    table.give_back(id, span(10), tail(9));
    assert_eq!(table.check(id, span(10)), Ok(Check::Next(tail(9))));
    assert!(table.check(id, span(20)).is_err());
    assert_eq!(table.check(id, span(0)), Ok(Check::Duplicate("kept")));
    table.give_back(id, span(0), None);
    assert_eq!((table.tail(id), table.check(id, span(0))), (None, Ok(Check::Next(None))));
}

#[test]
fn before_is_told_across_the_wrap() {
    for (one, other) in [(0, 1), (i32::MAX, 0), (i32::MAX - 4, 4), (5, 1 << 20)] {
        assert!(is_before(Sequence(one), Sequence(other)), "{one} {other}");
        assert!(!is_before(Sequence(other), Sequence(one)), "{one} {other}");
        assert!(!is_before(Sequence(one), Sequence(one)));
    }
}

#[test]
fn a_remembered_batch_counts_its_records_across_the_wrap() {
    let remembered = |first, last| Remembered { first: Sequence(first), last: Sequence(last), place: () };
    assert_eq!(remembered(0, 0).records(), 1);
    assert_eq!(remembered(10, 19).records(), 10);
    assert_eq!(remembered(i32::MAX - 1, 2).records(), 5);
}

#[test]
fn forgotten_producers_may_go_on_anywhere() {
    let mut table = SequenceTable::default();
    table.take(ProducerId(1), Span::new(ProducerEpoch(0), Sequence(0), 1), (), 10);
    table.take(ProducerId(2), Span::new(ProducerEpoch(0), Sequence(0), 1), (), 20);
    table.refuse(ProducerId(3), Span::new(ProducerEpoch(0), Sequence(0), 1), 10);
    table.refuse(ProducerId(4), Span::new(ProducerEpoch(0), Sequence(0), 1), 20);
    table.retain(|_, used_ms| used_ms >= 15);
    assert_eq!(table.len(), 1);
    let far = Span::new(ProducerEpoch(0), Sequence(77), 1);
    for (id, is_forgotten) in [(1, true), (2, false), (3, true), (4, false)] {
        assert_eq!(table.check(ProducerId(id), far).is_ok(), is_forgotten, "{id}");
    }
}

#[test]
fn the_producer_that_has_been_idle_longest_is_forgotten_first() {
    let mut table = SequenceTable::default();
    let span = |first| Span::new(ProducerEpoch(0), Sequence(first), 1);
    for (id, now_ms) in [(1, 10), (2, 20), (3, 30), (4, 40)] {
        table.take(ProducerId(id), span(0), (), now_ms);
    }
    table.take(ProducerId(1), span(1), (), 50);
    let kept = table.get(ProducerId(3)).unwrap().clone();
    table.restore(ProducerId(3), Producer { used_ms: 15, ..kept });
    let mut gone = Vec::new();
    while table.forget_idlest(|id, _| id != ProducerId(4)) {
        let before = gone.len();
        gone.extend(
            (1..=4).filter(|id| table.get(ProducerId(*id)).is_none() && !gone.contains(id)).collect::<Vec<_>>(),
        );
        assert_eq!(gone.len(), before + 1);
    }
    assert_eq!((gone, table.len(), table.by_use.len()), (vec![3, 2, 1], 1, 1));
}

#[test]
fn nothing_is_taken_behind_a_first_batch_that_was_refused_until_that_comes_again() {
    let mut table = SequenceTable::default();
    let (id, epoch) = (ProducerId(1), ProducerEpoch(2));
    let span = |first| Span::new(epoch, Sequence(first), 10);
    let held_back = |table: &SequenceTable<_>, first: i32, expected| {
        let found = Sequence(first);
        assert_eq!(table.check(id, span(first)), Err(SequenceError::OutOfOrder { expected, found }));
    };
    table.refuse(id, span(20), 0);
    held_back(&table, 30, Sequence(20));
    // One that was refused behind it moves nothing, one that was refused before it does.
    table.refuse(id, span(30), 0);
    held_back(&table, 30, Sequence(20));
    table.refuse(id, span(10), 0);
    held_back(&table, 20, Sequence(10));
    // It is no batch: it has no place, nothing follows on it, and no snapshot has it.
    assert_eq!(table.check(id, span(10)), Ok(Check::Next(None)));
    assert_eq!((table.tail(id), table.len(), table.iter().count()), (None, 0, 0));
    table.take(id, span(10), "first", 0);
    assert_eq!(table.check(id, span(20)), Ok(Check::Next(Some(Tail { epoch, last: Sequence(19) }))));
    assert_eq!(table.check(id, span(10)), Ok(Check::Duplicate("first")));
    // Forgotten, it is as if it had never been refused.
    table.retain(|_, _| false);
    assert_eq!(table.check(id, span(77)), Ok(Check::Next(None)));
}

#[test]
fn a_refused_batch_holds_back_only_its_own_incarnation() {
    let mut table = SequenceTable::<()>::default();
    let span = |epoch, first| Span::new(ProducerEpoch(epoch), Sequence(first), 1);
    let id = ProducerId(1);
    let is_held_back = |table: &SequenceTable<()>, epoch| table.check(id, span(epoch, 9)).is_err();
    table.refuse(id, span(4, 0), 0);
    assert_eq!([3, 4, 5].map(|epoch| is_held_back(&table, epoch)), [false, true, false]);
    // The latest one counts.
    table.refuse(id, span(3, 0), 0);
    assert_eq!([3, 4, 5].map(|epoch| is_held_back(&table, epoch)), [false, true, false]);
    table.refuse(id, span(5, 0), 0);
    assert_eq!([3, 4, 5].map(|epoch| is_held_back(&table, epoch)), [false, false, true]);
}

#[test]
fn what_was_taken_from_a_producer_holds_its_batches_back_without_a_refusal() {
    let mut table = SequenceTable::default();
    let span = |epoch, first| Span::new(ProducerEpoch(epoch), Sequence(first), 1);
    let id = ProducerId(1);
    table.take(id, span(0, 0), (), 0);
    for refused in [span(0, 1), span(1, 0)] {
        table.refuse(id, refused, 0);
        let next = Span { first: refused.last.advance(1), last: refused.last.advance(1), ..refused };
        assert!(matches!(table.check(id, next), Err(SequenceError::OutOfOrder { .. })));
        assert!(matches!(table.check(id, refused), Ok(Check::Next(Some(_)))));
    }
}

#[test]
fn refusals_are_remembered_of_so_many_producers_and_no_more() {
    let mut table = SequenceTable::<()>::default();
    let span = |first| Span::new(ProducerEpoch(0), Sequence(first), 1);
    for id in 0..=REFUSALS_REMEMBERED as i64 {
        table.refuse(ProducerId(id), span(0), 0);
        table.refuse(ProducerId(id), span(1), 0);
    }
    assert_eq!(table.refused.len(), REFUSALS_REMEMBERED);
    assert!(table.check(ProducerId(0), span(1)).is_ok(), "the oldest is forgotten");
    assert!(table.check(ProducerId(1), span(1)).is_err());
}
