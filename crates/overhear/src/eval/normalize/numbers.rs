//! Converts spelled-out English numbers to digits: `whisper/normalizers/english.py::EnglishNumberNormalizer`.
//!
//! A state machine over the words: `value` is the number so far, `prefix` the sign or currency to put before it. The
//! reference distinguishes a number that can still be added to (an `int`) from digits that are read out one after
//! another (a `str`), and has integers of any size; here both are decimal digits ([`Value`]), as every multiplier is a
//! power of ten.

use std::collections::HashMap;

use super::rewrite::{begins_word, ends_word, run, sub, words};
use super::value::{Number, Value, is_number, without_leading_zeros};
use crate::python::is_space;

#[rustfmt::skip]
const ONES: [&str; 19] = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
];
const TENS: [&str; 8] = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];
/// Multipliers and their powers of ten; from a million on three more each.
#[rustfmt::skip]
const MULTIPLIERS: [&str; 12] = [
    "hundred", "thousand", "million", "billion", "trillion", "quadrillion", "quintillion", "sextillion",
    "septillion", "octillion", "nonillion", "decillion",
];

/// Effect of a word on the number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Word {
    Zero,
    /// 1 to 19.
    Ones(usize),
    OnesSuffixed(usize, &'static str),
    /// 20, 30, ... 90.
    Tens(usize),
    TensSuffixed(usize, &'static str),
    /// A power of ten.
    Multiplier(usize),
    MultiplierSuffixed(usize, &'static str),
    /// A sign before a number.
    Preceding(char),
    /// A currency after a number, written before it.
    Following(char),
    Per,
    Percent,
    And,
    /// Double or triple: repeats the next digit.
    Repeat(usize),
    Point,
}

/// Converter of spelled-out numbers to digits.
#[derive(Clone, Debug)]
pub(super) struct EnglishNumberNormalizer {
    words: HashMap<String, Word>,
}

impl EnglishNumberNormalizer {
    pub(super) fn new() -> Self {
        let mut table = HashMap::new();
        let mut add = |name: &str, word| table.insert(name.to_owned(), word);
        for zero in ["o", "oh", "zero"] {
            add(zero, Word::Zero);
        }
        for (name, value) in ONES.iter().zip(1..) {
            add(name, Word::Ones(value));
            add(&plural_of_ones(name), Word::OnesSuffixed(value, "s"));
            // As in the reference: four to nineteen, which makes "nineth" a number and "ninth" none.
            if value > 3 && value != 5 && value != 12 {
                let ending = if name.ends_with('t') { "h" } else { "th" };
                add(&format!("{name}{ending}"), Word::OnesSuffixed(value, "th"));
            }
        }
        let irregular = [
            ("zeroth", 0, "th"),
            ("first", 1, "st"),
            ("second", 2, "nd"),
            ("third", 3, "rd"),
            ("fifth", 5, "th"),
            ("twelfth", 12, "th"),
        ];
        for (name, value, suffix) in irregular {
            add(name, Word::OnesSuffixed(value, suffix));
        }
        for (name, value) in TENS.iter().zip((20..).step_by(10)) {
            add(name, Word::Tens(value));
            add(&name.replace('y', "ies"), Word::TensSuffixed(value, "s"));
            add(&name.replace('y', "ieth"), Word::TensSuffixed(value, "th"));
        }
        for (name, power) in MULTIPLIERS
            .iter()
            .zip([2].into_iter().chain((3..).step_by(3)))
        {
            add(name, Word::Multiplier(power));
            add(&format!("{name}s"), Word::MultiplierSuffixed(power, "s"));
            add(&format!("{name}th"), Word::MultiplierSuffixed(power, "th"));
        }
        for (name, sign) in [
            ("minus", '-'),
            ("negative", '-'),
            ("plus", '+'),
            ("positive", '+'),
        ] {
            add(name, Word::Preceding(sign));
        }
        for (name, sign) in [
            ("pound", '£'),
            ("euro", '€'),
            ("dollar", '$'),
            ("cent", '¢'),
        ] {
            add(name, Word::Following(sign));
            add(&format!("{name}s"), Word::Following(sign));
        }
        add("per", Word::Per);
        add("percent", Word::Percent);
        add("and", Word::And);
        add("double", Word::Repeat(2));
        add("triple", Word::Repeat(3));
        add("point", Word::Point);
        Self { words: table }
    }

    pub(super) fn normalize(&self, text: &str) -> String {
        let text = self.preprocess(text);
        let words: Vec<&str> = words(&text).collect();
        postprocess(&self.process_words(&words).join(" "))
    }

    fn word(&self, word: Option<&str>) -> Option<Word> {
        self.words.get(word?).copied()
    }

    /// Replaces "`<number>` and a half" by "`<number>` point five", and separates letters from digits, but not a suffix
    /// from its number.
    fn preprocess(&self, text: &str) -> String {
        let segments = split_at_and_a_half(text);
        let n_segments = segments.len();
        let mut parts: Vec<&str> = Vec::new();
        for (i, segment) in segments.iter().enumerate() {
            let Some(last_word) = words(segment).last() else {
                continue;
            };
            parts.push(segment);
            if i < n_segments - 1 {
                let is_number = matches!(
                    self.word(Some(last_word)),
                    Some(Word::Zero | Word::Ones(_) | Word::Tens(_) | Word::Multiplier(_))
                );
                parts.push(if is_number {
                    "point five"
                } else {
                    "and a half"
                });
            }
        }
        let text = sub(&parts.join(" "), |chars, at| match chars[at..] {
            [left @ 'a'..='z', right @ '0'..='9', ..] => Some((2, format!("{left} {right}"))),
            _ => None,
        });
        let text = sub(&text, |chars, at| match chars[at..] {
            [left @ '0'..='9', right @ 'a'..='z', ..] => Some((2, format!("{left} {right}"))),
            _ => None,
        });
        sub(&text, attach_suffix)
    }

    fn process_words(&self, words: &[&str]) -> Vec<String> {
        let mut number = Number::default();
        let mut at = 0;
        while at < words.len() {
            let previous = at.checked_sub(1).map(|previous| words[previous]);
            let next = words.get(at + 1).copied();
            let is_next_used = self.process_word(&mut number, previous, words[at], next);
            at += if is_next_used { 2 } else { 1 };
        }
        number.put_value();
        number.words
    }

    /// Processes one word; returns whether the next word is consumed, too.
    fn process_word(
        &self,
        number: &mut Number,
        previous: Option<&str>,
        current: &str,
        next: Option<&str>,
    ) -> bool {
        let previous = self.word(previous);
        let next_word = self.word(next);
        let is_next_numeric = next.is_some_and(is_number);
        let is_next_number = next_word.is_some() || is_next_numeric;

        let sign = current
            .chars()
            .next()
            .filter(|c| matches!(c, '-' | '+' | '£' | '€' | '$' | '¢'));
        let unsigned = &current[sign.map_or(0, char::len_utf8)..];
        if is_number(unsigned) {
            number.digits(sign, unsigned, current);
            return false;
        }
        let Some(word) = self.word(Some(current)) else {
            number.put_value();
            number.put(current);
            return false;
        };
        match word {
            Word::Zero => number.value = Some(Value::Text(number.text() + "0")),
            Word::Ones(ones) => number.add_ones(ones, previous),
            Word::OnesSuffixed(ones, suffix) => {
                number.add_ones(ones, previous);
                number.put_value_with(suffix);
            }
            Word::Tens(tens) => number.add_tens(tens),
            Word::TensSuffixed(tens, suffix) => {
                number.add_tens(tens);
                number.put_value_with(suffix);
            }
            Word::Multiplier(power) => number.multiply(power),
            Word::MultiplierSuffixed(power, suffix) => {
                number.multiply(power);
                number.put_value_with(suffix);
            }
            Word::Preceding(sign) => {
                number.put_value();
                match is_next_number {
                    true => number.prefix = Some(sign),
                    false => number.put(current),
                }
            }
            Word::Following(sign) if number.value.is_some() => {
                number.prefix = Some(sign);
                number.put_value();
            }
            Word::Percent if number.value.is_some() => number.put_value_with("%"),
            Word::Per if number.value.is_some() && next == Some("cent") => {
                number.put_value_with("%");
                return true;
            }
            Word::Following(_) | Word::Per | Word::Percent => number.put_word(current),
            // These have a meaning only before a number.
            Word::And | Word::Repeat(_) | Word::Point if !is_next_number => {
                number.put_word(current);
            }
            Word::And if matches!(previous, Some(Word::Multiplier(_))) => {}
            Word::Repeat(n_times) if matches!(next_word, Some(Word::Zero | Word::Ones(_))) => {
                let digits = match next_word {
                    Some(Word::Ones(ones)) => ones.to_string(),
                    _ => "0".to_owned(),
                };
                number.value = Some(Value::Text(number.text() + &digits.repeat(n_times)));
                return true;
            }
            Word::And | Word::Repeat(_) => number.put_word(current),
            Word::Point => {
                let is_decimal =
                    matches!(next_word, Some(Word::Zero | Word::Ones(_) | Word::Tens(_)));
                if is_decimal || is_next_numeric {
                    number.value = Some(Value::Text(number.text() + "."));
                }
            }
        }
        false
    }
}

fn plural_of_ones(name: &str) -> String {
    match name {
        "six" => "sixes".to_owned(),
        _ => format!("{name}s"),
    }
}

/// `re.split(r"\band\s+a\s+half\b", text)`
fn split_at_and_a_half(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut segments = vec![String::new()];
    let mut at = 0;
    while at < chars.len() {
        match and_a_half(&chars, at) {
            Some(n_matched) => {
                segments.push(String::new());
                at += n_matched;
            }
            None => {
                segments.last_mut().expect("never empty").push(chars[at]);
                at += 1;
            }
        }
    }
    segments
}

/// Returns the number of characters of "and a half" at `at`.
fn and_a_half(chars: &[char], at: usize) -> Option<usize> {
    let mut end = at;
    for (i, word) in ["and", "a", "half"].into_iter().enumerate() {
        let n_spaces = run(chars, end, is_space);
        if i > 0 && n_spaces == 0 || i == 0 && n_spaces > 0 {
            return None;
        }
        end += n_spaces;
        let is_word = chars[end..]
            .iter()
            .copied()
            .take(word.len())
            .eq(word.chars());
        if !is_word {
            return None;
        }
        end += word.len();
    }
    (begins_word(chars, at) && ends_word(chars, end)).then_some(end - at)
}

/// `([0-9])\s+(st|nd|rd|th|s)\b`: removes the spaces.
fn attach_suffix(chars: &[char], at: usize) -> Option<(usize, String)> {
    let n_spaces = run(chars, at + 1, is_space);
    if !chars[at].is_ascii_digit() || n_spaces == 0 {
        return None;
    }
    let from = at + 1 + n_spaces;
    let suffixes = ["st", "nd", "rd", "th", "s"];
    let suffix = suffixes.into_iter().find(|suffix| {
        let is_there = chars[from..]
            .iter()
            .copied()
            .take(suffix.len())
            .eq(suffix.chars());
        is_there && ends_word(chars, from + suffix.len())
    })?;
    Some((
        1 + n_spaces + suffix.len(),
        format!("{}{suffix}", chars[at]),
    ))
}

/// Replaces "$2 and ¢7" by "$2.07", "$0.07" by "¢7", and "1" by "one".
fn postprocess(text: &str) -> String {
    let text = sub(text, combine_cents);
    let text = sub(&text, extract_cents);
    sub(&text, |chars, at| match chars[at..] {
        ['1', 's', ..] if begins_word(chars, at) && ends_word(chars, at + 2) => {
            Some((2, "ones".to_owned()))
        }
        ['1', ..] if begins_word(chars, at) && ends_word(chars, at + 1) => {
            Some((1, "one".to_owned()))
        }
        _ => None,
    })
}

/// `([€£$])([0-9]+) (?:and )?¢([0-9]{1,2})\b`
fn combine_cents(chars: &[char], at: usize) -> Option<(usize, String)> {
    let n_digits = run(chars, at + 1, |c| c.is_ascii_digit());
    let mut end = at + 1 + n_digits;
    if !is_currency(chars[at]) || n_digits == 0 || chars.get(end) != Some(&' ') {
        return None;
    }
    end += 1;
    if chars[end..].starts_with(&['a', 'n', 'd', ' ']) {
        end += 4;
    }
    if chars.get(end) != Some(&'¢') {
        return None;
    }
    let cents = one_or_two_digits(chars, end + 1)?;
    let whole: String = chars[at..=at + n_digits].iter().collect();
    Some((end + 1 + cents.len() - at, format!("{whole}.{cents:0>2}")))
}

/// `[€£$]0.([0-9]{1,2})\b`: the period is any character.
fn extract_cents(chars: &[char], at: usize) -> Option<(usize, String)> {
    if !is_currency(chars[at]) || chars.get(at + 1) != Some(&'0') || chars.len() < at + 4 {
        return None;
    }
    let cents = one_or_two_digits(chars, at + 3)?;
    Some((
        3 + cents.len(),
        format!("¢{}", without_leading_zeros(&cents)),
    ))
}

fn is_currency(c: char) -> bool {
    matches!(c, '€' | '£' | '$')
}

/// `([0-9]{1,2})\b`
fn one_or_two_digits(chars: &[char], at: usize) -> Option<String> {
    let n_digits = run(chars, at, |c| c.is_ascii_digit());
    let is_match = (1..=2).contains(&n_digits) && ends_word(chars, at + n_digits);
    is_match.then(|| chars[at..at + n_digits].iter().collect())
}
