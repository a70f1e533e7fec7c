// SPDX-License-Identifier: BSD-2-Clause
//! Turns `kernel-config/abi.toml` into Rust constants.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

#[path = "schema.rs"]
mod schema;
use schema::Abi;

fn module(out: &mut String, name: &str, doc: &str, map: &BTreeMap<String, i64>) {
    writeln!(out, "/// {doc}\npub mod {name} {{").unwrap();
    for (key, value) in map {
        let key = key.to_uppercase();
        writeln!(out, "    /// `{name}.{}` of abi.toml.", key.to_lowercase()).unwrap();
        writeln!(out, "    pub const {key}: usize = {value};").unwrap();
    }
    writeln!(out, "}}").unwrap();
}

fn enumeration(out: &mut String, name: &str, doc: &str, variants: &[(String, String)]) {
    writeln!(
        out,
        "/// {doc}\n#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[repr(u64)]\npub enum {name} {{"
    )
    .unwrap();
    for (i, (variant, doc)) in variants.iter().enumerate() {
        writeln!(out, "    /// {doc}\n    {variant} = {i},").unwrap();
    }
    writeln!(out, "}}\nimpl {name} {{").unwrap();
    writeln!(
        out,
        "    /// How many there are.\n    pub const COUNT: usize = {};",
        variants.len()
    )
    .unwrap();
    writeln!(
        out,
        "    /// All of them, in numeric order.\n    pub const ALL: [{name}; {}] = [",
        variants.len()
    )
    .unwrap();
    for (variant, _) in variants {
        writeln!(out, "        {name}::{variant},").unwrap();
    }
    writeln!(out, "    ];").unwrap();
    writeln!(
        out,
        "    /// The one with number `n`, if there is one.\n    pub const fn from_number(n: u64) -> Option<Self> {{\n        if n < {} {{ Some(Self::ALL[n as usize]) }} else {{ None }}\n    }}",
        variants.len()
    )
    .unwrap();
    writeln!(out, "    /// Its name in abi.toml.\n    pub const fn name(self) -> &'static str {{\n        match self {{").unwrap();
    for (variant, _) in variants {
        writeln!(out, "            {name}::{variant} => \"{variant}\",").unwrap();
    }
    writeln!(out, "        }}\n    }}\n}}").unwrap();
}

fn main() {
    let path = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../../kernel-config/abi.toml");
    println!("cargo:rerun-if-changed={}", path.display());
    let text = std::fs::read_to_string(&path).expect("kernel-config/abi.toml is readable");
    let abi: Abi = toml::from_str(&text).expect("kernel-config/abi.toml is valid");
    let mut out = String::new();
    module(
        &mut out,
        "address_space",
        "Virtual addresses and message sizes.",
        &abi.address_space,
    );
    module(&mut out, "limits", "Limits of the kernel.", &abi.limits);
    module(
        &mut out,
        "microkit",
        "CSpace and limits of a Microkit PD.",
        &abi.microkit,
    );
    module(
        &mut out,
        "init_cnode",
        "Slots of the root task's CNode at boot.",
        &abi.init_cnode,
    );

    let objects: Vec<_> = abi
        .object
        .iter()
        .map(|o| (o.name.clone(), o.doc.clone()))
        .collect();
    enumeration(
        &mut out,
        "ObjectType",
        "Objects that `UntypedRetype` makes.",
        &objects,
    );
    writeln!(out, "impl ObjectType {{").unwrap();
    writeln!(out, "    /// log2 of the size in bytes; of one slot for a CNode; 0 where the caller gives it.\n    pub const fn bits(self) -> u32 {{\n        match self {{").unwrap();
    for o in &abi.object {
        writeln!(out, "            ObjectType::{} => {},", o.name, o.bits).unwrap();
    }
    writeln!(out, "        }}\n    }}").unwrap();
    writeln!(out, "    /// Whether `size_bits` of Retype counts.\n    pub const fn is_variable(self) -> bool {{\n        match self {{").unwrap();
    for o in &abi.object {
        writeln!(out, "            ObjectType::{} => {},", o.name, o.variable).unwrap();
    }
    writeln!(out, "        }}\n    }}\n}}").unwrap();

    writeln!(out, "/// System call numbers (r0).\npub mod syscall {{").unwrap();
    for (i, s) in abi.syscall.iter().enumerate() {
        let number = -(i as i64 + 1);
        let debug = if s.debug {
            " (debug configuration only)"
        } else {
            ""
        };
        writeln!(
            out,
            "    /// `seL4_{}`{debug}.\n    pub const {}: isize = {number};",
            s.name,
            constant(&s.name)
        )
        .unwrap();
    }
    let debug = abi
        .syscall
        .iter()
        .position(|s| s.debug)
        .unwrap_or(abi.syscall.len());
    writeln!(
        out,
        "    /// Lowest number in every configuration.\n    pub const LAST: isize = -{debug};"
    )
    .unwrap();
    writeln!(
        out,
        "    /// Lowest number in the debug configuration.\n    pub const LAST_DEBUG: isize = -{};",
        abi.syscall.len()
    )
    .unwrap();
    writeln!(
        out,
        "    /// Names, from -1 down.\n    pub const NAMES: [&str; {}] = [",
        abi.syscall.len()
    )
    .unwrap();
    for s in &abi.syscall {
        writeln!(out, "        \"{}\",", s.name).unwrap();
    }
    writeln!(out, "    ];\n}}").unwrap();

    let mut invocations = vec![(
        "InvalidInvocation".to_string(),
        "No invocation.".to_string(),
    )];
    for i in &abi.invocation {
        let mut doc = format!("`{}(", i.name);
        doc.push_str(&i.args.join(", "));
        doc.push(')');
        if !i.caps.is_empty() {
            write!(doc, " caps({})", i.caps.join(", ")).unwrap();
        }
        if !i.ret.is_empty() {
            write!(doc, " -> {}", i.ret.join(", ")).unwrap();
        }
        doc.push('`');
        invocations.push((i.name.clone(), doc));
    }
    enumeration(
        &mut out,
        "InvocationLabel",
        "Labels of invocations.",
        &invocations,
    );

    let errors: Vec<_> = abi
        .error
        .iter()
        .map(|e| (e.name.clone(), format!("`seL4_{}`.", e.name)))
        .collect();
    enumeration(
        &mut out,
        "ErrorCode",
        "Error numbers of invocations (label of the answer).",
        &errors,
    );

    let faults: Vec<_> = abi
        .fault
        .iter()
        .map(|f| (f.name.clone(), format!("Message registers: {:?}.", f.words)))
        .collect();
    enumeration(&mut out, "FaultLabel", "Labels of fault messages.", &faults);
    writeln!(
        out,
        "/// Message register numbers of fault messages.\npub mod fault {{"
    )
    .unwrap();
    for f in abi.fault.iter().filter(|f| !f.words.is_empty()) {
        writeln!(
            out,
            "    /// `{}`.\n    pub mod {} {{",
            f.name,
            constant(&f.name).to_lowercase()
        )
        .unwrap();
        let words: Vec<_> = f.words.iter().filter(|w| !w.ends_with("...")).collect();
        for (i, w) in words.iter().enumerate() {
            writeln!(
                out,
                "        /// Word `{w}`.\n        pub const {}: usize = {i};",
                w.to_uppercase()
            )
            .unwrap();
        }
        writeln!(
            out,
            "        /// Words in all.\n        pub const LENGTH: usize = {};\n    }}",
            words.len()
        )
        .unwrap();
    }
    writeln!(out, "}}").unwrap();

    registers(
        &mut out,
        "user_context",
        "Word numbers of a thread's registers (TCBReadRegisters, TCBWriteRegisters).",
        &abi.user_context.registers,
    );
    let mut exits = vec![("None".to_string(), "Not an exit.".to_string())];
    exits.extend(
        abi.guest
            .exits
            .iter()
            .map(|e| (e.clone(), format!("Exit `{e}`."))),
    );
    enumeration(
        &mut out,
        "GuestExit",
        "Labels of exits of a guest's processor.",
        &exits,
    );
    let actions: Vec<_> = abi
        .guest
        .actions
        .iter()
        .map(|a| (a.clone(), format!("Action `{a}`.")))
        .collect();
    enumeration(
        &mut out,
        "ReplyAction",
        "Actions of a reply to an exit (label bits 51:48).",
        &actions,
    );
    registers(
        &mut out,
        "vcpu_register",
        "Word numbers of a VCPU's registers (VCPUReadRegisters, VCPUWriteRegisters).",
        &abi.guest.registers,
    );

    let dest = PathBuf::from(std::env::var("OUT_DIR").unwrap()).join("generated.rs");
    std::fs::write(dest, out).expect("OUT_DIR is writable");
}

fn registers(out: &mut String, module: &str, doc: &str, names: &[String]) {
    writeln!(out, "/// {doc}\npub mod {module} {{").unwrap();
    for (i, r) in names.iter().enumerate() {
        writeln!(
            out,
            "    /// `{r}`.\n    pub const {}: usize = {i};",
            r.to_uppercase()
        )
        .unwrap();
    }
    writeln!(
        out,
        "    /// Words in all.\n    pub const COUNT: usize = {};",
        names.len()
    )
    .unwrap();
    writeln!(
        out,
        "    /// Names, in order.\n    pub const NAMES: [&str; COUNT] = {names:?};\n}}"
    )
    .unwrap();
}

/// `NBSendRecv` -> `NB_SEND_RECV`, `VMFault` -> `VM_FAULT`.
fn constant(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        let starts_word = c.is_uppercase()
            && i > 0
            && (chars[i - 1].is_lowercase() || chars.get(i + 1).is_some_and(|n| n.is_lowercase()));
        if starts_word {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}
