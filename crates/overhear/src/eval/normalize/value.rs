//! State of the machine in [`super::numbers`]: a number under construction, in decimal digits of any length.

use super::numbers::Word;
use super::rewrite::is_digit;

/// State of the machine, and the words it has written.
#[derive(Default)]
pub(super) struct Number {
    pub(super) words: Vec<String>,
    pub(super) prefix: Option<char>,
    pub(super) value: Option<Value>,
}

impl Number {
    /// Writes a word, with the pending prefix in front of it, and clears the number, as in the reference.
    pub(super) fn put(&mut self, word: &str) {
        let prefix = self.prefix.take().map_or_else(String::new, String::from);
        self.words.push(prefix + word);
        self.value = None;
    }

    /// Writes the number, if there is one.
    pub(super) fn put_value(&mut self) {
        if self.value.is_some() {
            self.put_value_with("");
        }
    }

    pub(super) fn put_value_with(&mut self, suffix: &str) {
        let value = self.value.take().map_or_else(String::new, Value::into_text);
        self.put(&(value + suffix));
    }

    /// Writes the number, if there is one, and then the word.
    pub(super) fn put_word(&mut self, word: &str) {
        self.put_value();
        self.put(word);
    }

    /// `str(value or "")`: nothing for 0, too.
    pub(super) fn text(&self) -> String {
        match &self.value {
            Some(Value::Int(digits)) if digits == "0" => String::new(),
            Some(value) => value.clone().into_text(),
            None => String::new(),
        }
    }

    /// Processes digits in the text; `unsigned` is without, `current` with the sign.
    pub(super) fn digits(&mut self, sign: Option<char>, unsigned: &str, current: &str) {
        if let Some(Value::Text(text)) = &mut self.value
            && text.ends_with('.')
        {
            text.push_str(current);
            return;
        }
        self.put_value();
        self.prefix = sign.or(self.prefix);
        self.value = Some(match scaled(unsigned, 0) {
            Some(integer) => Value::Int(integer),
            None => Value::Text(unsigned.to_owned()),
        });
    }

    pub(super) fn add_ones(&mut self, ones: usize, previous: Option<Word>) {
        let n_digits = if ones < 10 { 1 } else { 2 };
        let is_after_ones = matches!(previous, Some(Word::Ones(_)));
        let is_after_tens = matches!(previous, Some(Word::Tens(_)));
        self.value = Some(match self.value.take() {
            None => Value::Int(ones.to_string()),
            Some(Value::Int(digits)) if !is_after_ones && ends_in_zeros(&digits, n_digits) => {
                Value::Int(fill_zeros(&digits, ones, n_digits))
            }
            // The last zero of the tens is replaced.
            Some(Value::Text(text)) if is_after_tens && ones < 10 => {
                Value::Text(format!("{}{ones}", text.strip_suffix('0').unwrap_or(&text)))
            }
            Some(value) => Value::Text(format!("{}{ones}", value.into_text())),
        });
    }

    pub(super) fn add_tens(&mut self, tens: usize) {
        self.value = Some(match self.value.take() {
            None => Value::Int(tens.to_string()),
            Some(Value::Int(digits)) if ends_in_zeros(&digits, 2) => {
                Value::Int(fill_zeros(&digits, tens, 2))
            }
            Some(value) => Value::Text(format!("{}{tens}", value.into_text())),
        });
    }

    /// Multiplies the part below a thousand by ten to the `power`. Digits that were read out are multiplied as a whole
    /// if the result is an integer, and else written before a new number.
    pub(super) fn multiply(&mut self, power: usize) {
        let one = || Value::Int(format!("1{}", "0".repeat(power)));
        self.value = Some(match self.value.take() {
            None => one(),
            Some(Value::Int(digits)) => {
                let (thousands, residual) = digits.split_at(digits.len().saturating_sub(3));
                let residual = format!("{residual}{}", "0".repeat(power));
                Value::Int(sum(&format!("{thousands}000"), &residual))
            }
            Some(Value::Text(text)) => match scaled(&text, power) {
                Some(integer) => Value::Int(integer),
                None => {
                    self.put(&text);
                    one()
                }
            },
        });
    }
}

impl Value {
    fn into_text(self) -> String {
        match self {
            Value::Int(text) | Value::Text(text) => text,
        }
    }
}

/// Number so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Decimal digits without leading zeros: the reference's `int`.
    Int(String),
    /// Digits that were read out, or with a decimal point: the reference's `str`.
    Text(String),
}

/// `^\d+(\.\d+)?$`
pub(super) fn is_number(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.chars().all(is_digit);
    match text.split_once('.') {
        None => is_digits(text),
        Some((integer, fraction)) => is_digits(integer) && is_digits(fraction),
    }
}

/// Multiplies the decimal `text` by ten to the `power`; `None` if the result is no integer or `text` is no number.
fn scaled(text: &str, power: usize) -> Option<String> {
    let (integer, fraction) = text.split_once('.').unwrap_or((text, ""));
    if integer.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: Option<String> = integer.chars().chain(fraction.chars()).map(ascii).collect();
    let mut digits = digits?;
    let n_fraction = fraction.chars().count();
    if n_fraction <= power {
        digits.push_str(&"0".repeat(power - n_fraction));
    } else {
        let rest = digits.split_off(digits.len() - (n_fraction - power));
        if rest.contains(|c| c != '0') {
            return None;
        }
    }
    Some(without_leading_zeros(&digits))
}

/// Converts a digit of any script to ASCII: the digits of a script are ten consecutive characters.
fn ascii(c: char) -> Option<char> {
    let is_digit_at = |code: u32| char::from_u32(code).is_some_and(is_digit);
    let n_before = (1..10).take_while(|n| is_digit_at((c as u32).saturating_sub(*n)));
    is_digit(c).then(|| char::from(b'0' + n_before.count() as u8))
}

pub(super) fn without_leading_zeros(digits: &str) -> String {
    match digits.trim_start_matches('0') {
        "" => "0".to_owned(),
        digits => digits.to_owned(),
    }
}

/// Returns whether the number is divisible by ten to the `n_digits`.
fn ends_in_zeros(digits: &str, n_digits: usize) -> bool {
    digits == "0" || digits.len() - digits.trim_end_matches('0').len() >= n_digits
}

/// Returns `digits`, which end in zeros, plus `addend`, which replaces the zeros.
fn fill_zeros(digits: &str, addend: usize, n_digits: usize) -> String {
    let kept = &digits[..digits.len().saturating_sub(n_digits)];
    without_leading_zeros(&format!("{kept}{addend:0n_digits$}"))
}

/// Returns the sum of two decimal numbers.
fn sum(a: &str, b: &str) -> String {
    let width = a.len().max(b.len()) + 1;
    let mut digits = vec![b'0'; width];
    let mut carry = 0;
    for place in 0..width {
        let digit = |text: &str| {
            text.as_bytes()
                .iter()
                .rev()
                .nth(place)
                .map_or(0, |d| d - b'0')
        };
        let column = digit(a) + digit(b) + carry;
        digits[width - 1 - place] = b'0' + column % 10;
        carry = column / 10;
    }
    without_leading_zeros(&String::from_utf8(digits).expect("ASCII digits"))
}
