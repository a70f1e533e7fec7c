// SPDX-License-Identifier: BSD-2-Clause
//! A parser of the capDL language, for what the tool writes: names and sections as upstream's grammar
//! has them, without ranges, nested objects and derivation.

#![allow(dead_code, reason = "each test binary uses its own part")]

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A word of the language.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    Number(u64),
    Symbol(char),
    End,
}

/// A parameter of an object or a capability.
#[derive(Clone, Debug)]
enum Parameter {
    /// `9 bits`.
    Bits(u64),
    /// `4k`, `2M`: log2 of the bytes.
    Size(u64),
    /// `RW`, `uncached`.
    Word(String),
    /// `badge: 1`.
    Number(String, u64),
    /// `trigger: edge`.
    Named(String, String),
    /// `view: (vspace_hpt, 0x1000)`.
    Tuple(String, Vec<Token>),
    /// `fill: {BootImage 3}`.
    Fill(Vec<String>),
}

#[derive(Clone, Debug)]
struct Object {
    kind: String,
    parameters: Vec<Parameter>,
    slots: Vec<(u64, String, Vec<Parameter>)>,
}

/// A file.
#[derive(Debug, Default)]
pub struct Module {
    pub arch: String,
    /// In the order of the file.
    pub names: Vec<String>,
    objects: BTreeMap<String, Object>,
    irqs: BTreeMap<u64, String>,
}

struct Parser<'a> {
    rest: &'a str,
    token: Token,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_@.".contains(c)
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let mut parser = Parser {
            rest: text,
            token: Token::End,
        };
        parser.advance();
        parser
    }

    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(comment) = self.rest.strip_prefix("--") {
                self.rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                self.rest = comment.split_once("*/").expect("a comment ends").1;
            } else {
                return;
            }
        }
    }

    /// Answers the token and reads the next one.
    fn advance(&mut self) -> Token {
        self.skip();
        let Some(first) = self.rest.chars().next() else {
            return std::mem::replace(&mut self.token, Token::End);
        };
        let (next, length) = if first.is_ascii_alphabetic() {
            let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
            (Token::Name(self.rest[..end].into()), end)
        } else if let Some(hex) = self.rest.strip_prefix("0x") {
            let end = hex.find(|c: char| !c.is_ascii_hexdigit());
            let end = end.unwrap_or(hex.len());
            let value = u64::from_str_radix(&hex[..end], 16).expect("a number");
            (Token::Number(value), end + 2)
        } else if first.is_ascii_digit() {
            let end = self.rest.find(|c: char| !c.is_ascii_digit());
            let end = end.unwrap_or(self.rest.len());
            (Token::Number(self.rest[..end].parse().unwrap()), end)
        } else {
            (Token::Symbol(first), first.len_utf8())
        };
        self.rest = &self.rest[length..];
        std::mem::replace(&mut self.token, next)
    }

    fn accept(&mut self, symbol: char) -> bool {
        let found = self.token == Token::Symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, symbol: char) {
        let found = self.accept(symbol);
        assert!(found, "'{symbol}' expected, found {:?}", self.token);
    }

    fn name(&mut self) -> String {
        match self.advance() {
            Token::Name(name) => name,
            other => panic!("a name expected, found {other:?}"),
        }
    }

    fn number(&mut self) -> u64 {
        match self.advance() {
            Token::Number(n) => n,
            other => panic!("a number expected, found {other:?}"),
        }
    }

    fn parameters(&mut self) -> Vec<Parameter> {
        let mut list = Vec::new();
        if self.accept('(') {
            list.push(self.parameter());
            while self.accept(',') {
                list.push(self.parameter());
            }
            self.expect(')');
        }
        list
    }

    fn parameter(&mut self) -> Parameter {
        if let Token::Number(n) = self.token {
            self.advance();
            let log = u64::from(n.ilog2());
            return match self.name().as_str() {
                "bits" => Parameter::Bits(n),
                "k" if n.is_power_of_two() => Parameter::Size(log + 10),
                "M" if n.is_power_of_two() => Parameter::Size(log + 20),
                unit => panic!("unit '{unit}'"),
            };
        }
        let name = self.name();
        if self.token != Token::Symbol(':') {
            return Parameter::Word(name);
        }
        self.advance();
        match self.advance() {
            Token::Number(n) => Parameter::Number(name, n),
            Token::Name(value) => Parameter::Named(name, value),
            Token::Symbol('(') => {
                let mut list = vec![self.advance()];
                while self.accept(',') {
                    list.push(self.advance());
                }
                self.expect(')');
                Parameter::Tuple(name, list)
            }
            Token::Symbol('{') if name == "fill" => {
                let mut words = Vec::new();
                while !self.accept('}') {
                    words.push(match self.advance() {
                        Token::Name(word) => word,
                        Token::Number(n) => n.to_string(),
                        other => panic!("{other:?} in a fill"),
                    });
                }
                Parameter::Fill(words)
            }
            other => panic!("{other:?} after '{name}:'"),
        }
    }
}

/// Parses a file.
///
/// # Panics
/// It is not capDL.
pub fn parse(text: &str) -> Module {
    let mut p = Parser::new(text);
    let mut module = Module::default();
    assert_eq!(p.name(), "arch");
    module.arch = p.name();
    while p.token != Token::End {
        let section = p.name();
        if section == "irq" {
            assert_eq!(p.name(), "maps");
        }
        p.expect('{');
        while !p.accept('}') {
            match section.as_str() {
                "objects" => {
                    let name = p.name();
                    p.expect('=');
                    let object = Object {
                        kind: p.name(),
                        parameters: p.parameters(),
                        slots: Vec::new(),
                    };
                    let old = module.objects.insert(name.clone(), object);
                    assert!(old.is_none(), "{name} is declared twice");
                    module.names.push(name);
                }
                "caps" => {
                    let name = p.name();
                    let mut slots = Vec::new();
                    p.expect('{');
                    while !p.accept('}') {
                        let slot = match p.advance() {
                            Token::Number(n) => n,
                            Token::Name(symbol) => match symbol.as_str() {
                                "cspace" => 0,
                                "vspace" => 1,
                                "ipc_buffer_slot" => 4,
                                "fault_ep_slot" => 5,
                                "sc_slot" => 6,
                                other => panic!("slot '{other}'"),
                            },
                            other => panic!("slot {other:?}"),
                        };
                        p.expect(':');
                        let target = p.name();
                        slots.push((slot, target, p.parameters()));
                        p.accept(';');
                    }
                    let object = module.objects.get_mut(&name);
                    object.unwrap_or_else(|| panic!("no object {name}")).slots = slots;
                }
                "irq" => {
                    let number = p.number();
                    p.expect(':');
                    let old = module.irqs.insert(number, p.name());
                    assert!(old.is_none(), "interrupt {number}");
                }
                other => panic!("section '{other}'"),
            }
        }
    }
    module
}

fn bits(parameters: &[Parameter]) -> Value {
    let bits = parameters.iter().find_map(|p| match p {
        Parameter::Bits(n) | Parameter::Size(n) => Some(*n),
        _ => None,
    });
    json!(bits)
}

fn number(parameters: &[Parameter], key: &str) -> Value {
    let value = parameters.iter().find_map(|p| match p {
        Parameter::Number(name, n) if name == key => Some(*n),
        _ => None,
    });
    json!(value)
}

fn named(parameters: &[Parameter], key: &str) -> Value {
    let value = parameters.iter().find_map(|p| match p {
        Parameter::Named(name, value) if name == key => Some(value.clone()),
        _ => None,
    });
    json!(value)
}

fn word(parameters: &[Parameter], wanted: &str) -> bool {
    parameters
        .iter()
        .any(|p| matches!(p, Parameter::Word(word) if word == wanted))
}

fn text(token: &Token) -> String {
    match token {
        Token::Name(name) => name.clone(),
        Token::Number(n) => format!("{n:#x}"),
        other => panic!("{other:?} in a tuple"),
    }
}

impl Module {
    /// The file in the shape of the JSON, with names in the place of object numbers and objects by
    /// name: see [`by_name`].
    pub fn json(&self) -> Value {
        let objects = self.objects.iter();
        let objects: Map<_, _> = objects
            .map(|(name, object)| (name.clone(), self.object(object)))
            .collect();
        let irqs: Map<_, _> = self
            .irqs
            .iter()
            .map(|(number, name)| (number.to_string(), json!(name)))
            .collect();
        json!({ "objects": objects, "irqs": irqs })
    }

    fn object(&self, object: &Object) -> Value {
        let p = object.parameters.as_slice();
        let slots: Vec<_> = object
            .slots
            .iter()
            .map(|(slot, target, parameters)| json!([slot, self.cap(target, parameters)]))
            .collect();
        match object.kind.as_str() {
            "ep" => json!("Endpoint"),
            "notification" => json!("Notification"),
            "rtreply" => json!("Reply"),
            "cnode" => json!({ "CNode": { "size_bits": bits(p), "slots": slots } }),
            "tcb" => {
                let resume = named(p, "resume") == "true";
                let mut extra = json!({
                    "affinity": number(p, "affinity"),
                    "prio": number(p, "prio"),
                    "max_prio": number(p, "max_prio"),
                    "resume": resume,
                });
                if resume {
                    extra["ipc_buffer_addr"] = number(p, "addr");
                    extra["ip"] = number(p, "ip");
                    extra["sp"] = number(p, "sp");
                    extra["gprs"] = json!([]);
                }
                json!({ "Tcb": { "slots": slots, "extra": extra } })
            }
            "sc" => json!({
                "SchedContext": {
                    "size_bits": bits(p),
                    "extra": {
                        "core": number(p, "core"),
                        "budget": number(p, "budget"),
                        "period": number(p, "period"),
                        "badge": number(p, "data"),
                    },
                }
            }),
            "frame" => {
                let image = p.iter().find_map(|p| match p {
                    Parameter::Fill(words) if words[0] == "BootImage" => words[1].parse().ok(),
                    _ => None,
                });
                let image: Option<u64> = image;
                json!({
                    "Frame": {
                        "size_bits": bits(p),
                        "paddr": number(p, "paddr"),
                        "image_frame": image,
                    }
                })
            }
            "pgd" | "pud" | "pd" | "pt" => {
                let levels = ["pgd", "pud", "pd", "pt"];
                let level = levels.iter().position(|l| *l == object.kind);
                json!({
                    "PageTable": {
                        "is_root": object.kind == "pgd", "level": level, "slots": slots,
                    }
                })
            }
            "irq" => {
                let own = |(_, name): &(&u64, &String)| {
                    self.objects
                        .get(*name)
                        .is_some_and(|o| std::ptr::eq(o, object))
                };
                let number = self.irqs.iter().find(own).expect("every irq is mapped").0;
                json!({
                    "Irq": { "number": number, "trigger": named(p, "trigger"), "slots": slots }
                })
            }
            "ut" => json!({ "Untyped": { "size_bits": bits(p) } }),
            "timer" => json!({ "Timer": { "slots": slots } }),
            "platform" => json!("PlatformControl"),
            "gspace" => json!("GSpace"),
            "hpt" => {
                let view = |p: &Parameter| match p {
                    Parameter::Tuple(name, tuple) if name == "view" => match &tuple[..] {
                        [Token::Name(vspace), Token::Number(vaddr)] => {
                            Some(json!({ "object": vspace, "vaddr": vaddr }))
                        }
                        other => panic!("view {other:?}"),
                    },
                    _ => None,
                };
                json!({
                    "Hpt": {
                        "size_bits": bits(p),
                        "vrma_page_bits": number(p, "vrma_bits"),
                        "slots": slots,
                        "views": p.iter().filter_map(view).collect::<Vec<_>>(),
                    }
                })
            }
            "hpt_gfns" => json!({ "HptGfns": { "size_bits": bits(p) } }),
            "vcpu" => {
                let (mut hypercalls, mut exits) = (Vec::new(), Vec::new());
                for parameter in p {
                    let Parameter::Tuple(_, tuple) = parameter else {
                        continue;
                    };
                    let Token::Number(slot) = tuple[0] else {
                        panic!("route {tuple:?}");
                    };
                    for target in &tuple[1..] {
                        let name = text(target);
                        let list = match name.starts_with("H_") || name.starts_with("0x") {
                            true => &mut hypercalls,
                            false => &mut exits,
                        };
                        list.push(json!({ "name": name, "route": slot - 2 }));
                    }
                }
                json!({
                    "VCpu": {
                        "id": number(p, "id"),
                        "slots": slots,
                        "hypercalls": hypercalls,
                        "exits": exits,
                    }
                })
            }
            other => panic!("object type '{other}'"),
        }
    }

    fn cap(&self, target: &str, p: &[Parameter]) -> Value {
        let letters = p.iter().find_map(|p| match p {
            Parameter::Word(word) if word.chars().all(|c| "RWGPX".contains(c)) => Some(word),
            _ => None,
        });
        let letter = |c| letters.is_some_and(|l| l.contains(c));
        let rights = json!({
            "read": letter('R'),
            "write": letter('W'),
            "grant": letter('G'),
            "grant_reply": letter('P'),
        });
        let simple = |kind: &str| json!({ kind: { "object": target } });
        let badge = match number(p, "badge") {
            Value::Null => json!(0),
            badge => badge,
        };
        match self.objects[target].kind.as_str() {
            "ep" => json!({
                "Endpoint": { "object": target, "badge": badge, "rights": rights }
            }),
            "notification" => json!({
                "Notification": { "object": target, "badge": badge, "rights": rights }
            }),
            "cnode" => json!({
                "CNode": {
                    "object": target,
                    "guard": number(p, "guard"),
                    "guard_size": number(p, "guard_size"),
                }
            }),
            "frame" => json!({
                "Frame": {
                    "object": target,
                    "rights": rights,
                    "cached": !word(p, "uncached"),
                    "executable": letter('X'),
                }
            }),
            "gspace" if word(p, "view") => json!({
                "GSpaceView": { "object": target, "rights": rights }
            }),
            "rtreply" => simple("Reply"),
            "tcb" => simple("Tcb"),
            "sc" => simple("SchedContext"),
            "pgd" | "pud" | "pd" | "pt" => simple("PageTable"),
            "irq" => simple("IrqHandler"),
            "ut" => simple("Untyped"),
            "timer" => simple("Timer"),
            "platform" => simple("PlatformControl"),
            "gspace" => simple("GSpace"),
            "hpt" => simple("Hpt"),
            "hpt_gfns" => simple("HptGfns"),
            "vcpu" => json!({
                "VCpu": { "object": target, "rights": rights }
            }),
            other => panic!("capability to '{other}'"),
        }
    }
}

/// The tool's JSON with names in the place of object numbers.
pub fn by_name(json: &str) -> Value {
    let spec: Value = serde_json::from_str(json).unwrap();
    let list = spec["objects"].as_array().unwrap();
    let name = |id: u64| list[id as usize]["name"].as_str().unwrap();
    fn replace<'a>(value: &mut Value, name: &impl Fn(u64) -> &'a str) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match (key.as_str(), value.as_u64()) {
                        ("object", Some(id)) => *value = json!(name(id)),
                        _ => replace(value, name),
                    }
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|v| replace(v, name)),
            _ => (),
        }
    }
    let mut objects = Map::new();
    for entry in list {
        let mut object = entry["object"].clone();
        replace(&mut object, &name);
        let old = objects.insert(entry["name"].as_str().unwrap().into(), object);
        assert!(old.is_none(), "{entry} is there twice");
    }
    let irqs = spec["irqs"].as_array().unwrap().iter();
    let irqs: Map<_, _> = irqs
        .map(|entry| {
            let handler = name(entry["handler"].as_u64().unwrap());
            (entry["irq"].to_string(), json!(handler))
        })
        .collect();
    json!({ "objects": objects, "irqs": irqs })
}
