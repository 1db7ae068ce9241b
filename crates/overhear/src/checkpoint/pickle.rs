//! Reader of the pickles that `torch.save` writes for dictionaries of tensors (`pickletools.py`, `torch/_utils.py`).
//!
//! A pickle is a program that names functions and calls them. This reader has the instructions and functions that tensors
//! need, and what it makes of them are descriptions; everything else is refused by its name. Nothing is ever executed.

use std::collections::HashMap;

use super::cursor::{Cursor, little_endian};
use super::fields::Parsed;
use super::tensor_file::MAX_RANK;
use crate::excerpt::excerpt;

/// Maximum number of values, and of references to them: ten times those of large-v3, which has 20 for each of 1259 tensors.
const MAX_VALUES: usize = 1 << 18;
/// Maximum number of bytes of a name of a function.
const MAX_NAME_BYTES: usize = 200;

/// Index of a value.
pub(super) type Id = u32;

/// A value. Others are named by their indices, so that none contains another: not even an endless pickle recurses.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// None, a truth value or a fraction.
    Other,
    Integer(i64),
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Keys and values, in the order of their insertion.
    Dictionary(Vec<(Id, Id)>),
    Function(Function),
    Storage(Storage<'a>),
    Tensor(Box<View<'a>>),
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Function {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// Class of a storage of this dtype, in the notation of safetensors.
    Storage(&'static str),
}

/// Elements in another entry of the archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    /// In the notation of safetensors.
    pub(super) dtype: &'static str,
    /// Name of the entry, in the folder `data`.
    pub(super) key: &'a str,
    pub(super) n_elements: u64,
}

/// A tensor: elements of a storage.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) storage: Storage<'a>,
    /// Index of the first element.
    pub(super) first: u64,
    pub(super) shape: Vec<u64>,
    /// Distance of neighbours along each dimension, in elements.
    pub(super) strides: Vec<u64>,
}

/// Values of a pickle.
pub(super) struct Pickled<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickled<'a> {
    /// Returns the value that was pickled.
    pub(super) fn root(&self) -> &Value<'a> {
        self.get(self.root)
    }

    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    /// Returns the value of `key` in `dictionary`, the last one if there are several, as in Python.
    pub(super) fn value(&self, dictionary: &Value<'_>, key: &str) -> Option<&Value<'a>> {
        let Value::Dictionary(items) = dictionary else {
            return None;
        };
        let has_key =
            |(id, _): &&(Id, Id)| matches!(self.get(*id), Value::Text(text) if *text == key);
        items
            .iter()
            .rev()
            .find(has_key)
            .map(|(_, value)| self.get(*value))
    }
}

/// Reads a pickle.
///
/// # Errors
/// The reason if it is cut or damaged, or needs anything but tensors.
pub(super) fn unpickle(bytes: &[u8]) -> Parsed<Pickled<'_>> {
    let mut machine = Machine {
        cursor: Cursor::new(bytes),
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let at = machine.cursor.position();
        let step = machine.step();
        if let Some(root) = step.map_err(|reason| format!("data.pkl, byte {at}: {reason}"))? {
            let values = machine.values;
            return Ok(Pickled { values, root });
        }
    }
}

/// Python's pickle machine.
struct Machine<'a> {
    cursor: Cursor<'a>,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Lengths of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    /// Carries out an instruction; returns the result of the last one.
    fn step(&mut self) -> Parsed<Option<Id>> {
        let opcode = self.cursor.number::<1>()? as u8;
        match opcode {
            // PROTO, FRAME: versions add instructions, frames say how much to read at once.
            0x80 => drop(self.cursor.bytes(1)?),
            0x95 => drop(self.cursor.bytes(8)?),
            // NONE, NEWTRUE, NEWFALSE, BINFLOAT
            b'N' | 0x88 | 0x89 => self.push(Value::Other)?,
            b'G' => {
                self.cursor.bytes(8)?;
                self.push(Value::Other)?;
            }
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let number = self.cursor.number::<4>()? as u32 as i32;
                self.push(Value::Integer(number.into()))?;
            }
            b'K' => self.short_integer::<1>()?,
            b'M' => self.short_integer::<2>()?,
            0x8a => self.long_integer()?,
            // BINUNICODE, SHORT_BINUNICODE
            b'X' => self.text::<4>()?,
            0x8c => self.text::<1>()?,
            // MARK, EMPTY_TUPLE, TUPLE, TUPLE1, TUPLE2, TUPLE3
            b'(' => {
                within_limit(self.marks.len())?;
                self.marks.push(self.stack.len());
            }
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items))?;
            }
            0x85..=0x87 => {
                let items = self.pop_last(usize::from(opcode - 0x84))?;
                self.push(Value::Tuple(items))?;
            }
            // EMPTY_LIST, APPEND, APPENDS
            b']' => self.push(Value::List(Vec::new()))?,
            b'a' => {
                let items = self.pop_last(1)?;
                self.append(items)?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            // EMPTY_DICT, SETITEM, SETITEMS
            b'}' => self.push(Value::Dictionary(Vec::new()))?,
            b's' => {
                let items = self.pop_last(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => self.put_numbered::<1>()?,
            b'r' => self.put_numbered::<4>()?,
            0x94 => self.put(self.memo.len() as u64)?,
            b'h' => self.recall::<1>()?,
            b'j' => self.recall::<4>()?,
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let names = [self.cursor.line()?, self.cursor.line()?];
                let [module, name] = names.map(String::from_utf8_lossy);
                self.push_function(&module, &name)?;
            }
            0x93 => {
                let names = self.pop_last(2)?;
                let (&Value::Text(module), &Value::Text(name)) =
                    (self.get(names[0]), self.get(names[1]))
                else {
                    return Err("a function without a name".to_owned());
                };
                self.push_function(module, name)?;
            }
            // REDUCE, BUILD, BINPERSID
            b'R' => self.call()?,
            b'b' => self.set_state()?,
            b'Q' => self.storage()?,
            // STOP
            b'.' => return self.pop().map(Some),
            _ => {
                return Err(format!(
                    "instruction 0x{opcode:02x} is none that tensors need: refused, nothing was executed"
                ));
            }
        }
        Ok(None)
    }

    fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    fn push(&mut self, value: Value<'a>) -> Parsed<()> {
        within_limit(self.values.len())?;
        let id = self.values.len() as Id;
        self.values.push(value);
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Parsed<()> {
        within_limit(self.stack.len())?;
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Parsed<Id> {
        Ok(self.pop_last(1)?[0])
    }

    /// Returns the last `n` values above the last mark.
    fn pop_last(&mut self, n: usize) -> Parsed<Vec<Id>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n) {
            Some(at) if at >= floor => Ok(self.stack.split_off(at)),
            _ => Err("a value is missing".to_owned()),
        }
    }

    /// Returns the values above the last mark, and removes that.
    fn pop_to_mark(&mut self) -> Parsed<Vec<Id>> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    /// Returns the value at the top of the stack.
    fn top(&mut self) -> Parsed<&mut Value<'a>> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(&mut self.values[id as usize])
    }

    fn short_integer<const N: usize>(&mut self) -> Parsed<()> {
        let number = self.cursor.number::<N>()?;
        self.push(Value::Integer(number as i64))
    }

    fn long_integer(&mut self) -> Parsed<()> {
        let n = self.cursor.number::<1>()? as usize;
        let bytes = self.cursor.bytes(n)?;
        if n > size_of::<i64>() {
            return Err(format!("an integer of {n} bytes"));
        }
        // The sign is the last byte's.
        let unused = 64 - 8 * n as u32;
        let number = little_endian(bytes) as i64;
        self.push(Value::Integer(match n {
            0 => 0,
            _ => number << unused >> unused,
        }))
    }

    fn text<const N: usize>(&mut self) -> Parsed<()> {
        let n = self.cursor.number::<N>()? as usize;
        let text = std::str::from_utf8(self.cursor.bytes(n)?);
        self.push(Value::Text(text.map_err(|_| "text that is not UTF-8")?))
    }

    fn append(&mut self, new: Vec<Id>) -> Parsed<()> {
        match self.top()? {
            Value::List(items) => items.extend(new),
            _ => return Err("an item of what is not a list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, new: &[Id]) -> Parsed<()> {
        let (pairs, rest) = new.as_chunks();
        match self.top()? {
            Value::Dictionary(items) if rest.is_empty() => {
                items.extend(pairs.iter().map(|&[key, value]| (key, value)));
            }
            _ => return Err("an item of what is not a dictionary".to_owned()),
        }
        Ok(())
    }

    fn put_numbered<const N: usize>(&mut self) -> Parsed<()> {
        let number = self.cursor.number::<N>()?;
        self.put(number)
    }

    fn put(&mut self, number: u64) -> Parsed<()> {
        within_limit(self.memo.len())?;
        let id = self.pop()?;
        self.stack.push(id);
        self.memo.insert(number, id);
        Ok(())
    }

    fn recall<const N: usize>(&mut self) -> Parsed<()> {
        let number = self.cursor.number::<N>()?;
        let id = self.memo.get(&number).copied();
        self.push_id(id.ok_or_else(|| format!("no value {number} is kept"))?)
    }

    fn push_function(&mut self, module: &str, name: &str) -> Parsed<()> {
        match Function::named(module, name) {
            Some(function) => self.push(Value::Function(function)),
            None => {
                let shown = |name: &str| {
                    let end = name.floor_char_boundary(MAX_NAME_BYTES);
                    excerpt(&name[..end].escape_debug().to_string())
                };
                Err(format!(
                    "{}.{} is none of the functions that tensors need: refused, nothing was executed",
                    shown(module),
                    shown(name)
                ))
            }
        }
    }

    /// Describes the result of a call.
    fn call(&mut self) -> Parsed<()> {
        let parts = self.pop_last(2)?;
        let (&Value::Function(function), Value::Tuple(arguments)) =
            (self.get(parts[0]), self.get(parts[1]))
        else {
            return Err("a call of what is not a function".to_owned());
        };
        match (function, &arguments[..]) {
            (Function::OrderedDict, []) => self.push(Value::Dictionary(Vec::new())),
            (
                Function::RebuildTensor,
                &[storage, first, shape, strides, _, _]
                | &[storage, first, shape, strides, _, _, _],
            ) => {
                let view = self.view(storage, first, shape, strides);
                let view = view.ok_or("a tensor without storage, shape and strides")?;
                self.push(Value::Tensor(Box::new(view)))
            }
            (Function::RebuildParameter, &[tensor, _, _])
                if matches!(self.get(tensor), Value::Tensor(_)) =>
            {
                self.push_id(tensor)
            }
            _ => Err(format!("{function:?} with other arguments than torch's")),
        }
    }

    fn view(&self, storage: Id, first: Id, shape: Id, strides: Id) -> Option<View<'a>> {
        let &Value::Storage(storage) = self.get(storage) else {
            return None;
        };
        let view = View {
            storage,
            first: self.size(first)?,
            shape: self.sizes(shape)?,
            strides: self.sizes(strides)?,
        };
        (view.shape.len() == view.strides.len()).then_some(view)
    }

    /// Returns an integer that is not negative.
    fn size(&self, id: Id) -> Option<u64> {
        match self.get(id) {
            &Value::Integer(number) => u64::try_from(number).ok(),
            _ => None,
        }
    }

    fn sizes(&self, id: Id) -> Option<Vec<u64>> {
        match self.get(id) {
            Value::Tuple(items) if items.len() <= MAX_RANK => {
                items.iter().map(|&item| self.size(item)).collect()
            }
            _ => None,
        }
    }

    /// Drops the attributes of a dictionary: torch gives versions of modules to the state of a model.
    fn set_state(&mut self) -> Parsed<()> {
        self.pop()?;
        match self.top()? {
            Value::Dictionary(_) => Ok(()),
            _ => Err("attributes of what is not a dictionary".to_owned()),
        }
    }

    /// Describes a storage: `("storage", class, key, device, n_elements)`.
    fn storage(&mut self) -> Parsed<()> {
        let id = self.pop()?;
        let storage = self.storage_of(id);
        self.push(Value::Storage(
            storage.ok_or("a reference that is none to a storage")?,
        ))
    }

    fn storage_of(&self, id: Id) -> Option<Storage<'a>> {
        let Value::Tuple(items) = self.get(id) else {
            return None;
        };
        let &[kind, class, key, _, n_elements] = &items[..] else {
            return None;
        };
        match (self.get(kind), self.get(class), self.get(key)) {
            (
                Value::Text("storage"),
                &Value::Function(Function::Storage(dtype)),
                &Value::Text(key),
            ) => {
                let n_elements = self.size(n_elements)?;
                Some(Storage {
                    dtype,
                    key,
                    n_elements,
                })
            }
            _ => None,
        }
    }
}

impl Function {
    /// Returns the function or class of this name, if tensors need it.
    fn named(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "DoubleStorage") => Self::Storage("F64"),
            ("torch", "FloatStorage") => Self::Storage("F32"),
            ("torch", "HalfStorage") => Self::Storage("F16"),
            ("torch", "BFloat16Storage") => Self::Storage("BF16"),
            ("torch", "LongStorage") => Self::Storage("I64"),
            ("torch", "IntStorage") => Self::Storage("I32"),
            ("torch", "ShortStorage") => Self::Storage("I16"),
            ("torch", "CharStorage") => Self::Storage("I8"),
            ("torch", "ByteStorage") => Self::Storage("U8"),
            ("torch", "BoolStorage") => Self::Storage("BOOL"),
            _ => return None,
        })
    }
}

fn within_limit(n: usize) -> Parsed<()> {
    match n < MAX_VALUES {
        true => Ok(()),
        false => Err(format!("more than {MAX_VALUES} values")),
    }
}
