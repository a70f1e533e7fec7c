// SPDX-License-Identifier: BSD-2-Clause
//! SPEC 4.2 and GUEST.md 3: the tree, parsed back.

use crate::load::{RTAS_BYTES, Range};
use crate::tree::*;
use crate::*;
use fdt::Fdt;

const RTAS: Range = Range {
    start: 0x810_0000,
    end: 0x810_0000 + RTAS_BYTES,
};
const INITRD: Range = Range {
    start: 0x900_0000,
    end: 0x912_2789,
};

const TREE: Tree<'static> = Tree {
    memory_bytes: 0x4000_0000,
    vcpus: 2,
    hpt_order: 23,
    page_sizes: PAGES_UP_TO_64K,
    processor: "PowerPC,POWER9",
    processor_version: 0x4e_1200,
    timebase_hz: 512_000_000,
    clock_hz: 1_000_000_000,
    bootargs: "console=hvc0",
    initrd: Some(INITRD),
    rtas: RTAS,
    terminals: &[0x7100_0000, 0x7100_0001],
    first_source: 0x1100,
    random: true,
};

fn cells(fdt: &Fdt<'_>, path: &str, name: &str) -> Vec<u32> {
    let node = fdt.find_node(path).unwrap_or_else(|| panic!("no {path}"));
    let value = node
        .property(name)
        .unwrap_or_else(|| panic!("no {path}/{name}"))
        .value;
    value
        .chunks(4)
        .map(|c| u32::from_be_bytes(c.try_into().unwrap()))
        .collect()
}

fn strings(fdt: &Fdt<'_>, path: &str, name: &str) -> Vec<String> {
    let value = fdt.find_node(path).unwrap().property(name).unwrap().value;
    let (last, text) = value.split_last().unwrap();
    assert_eq!(*last, 0);
    text.split(|b| *b == 0)
        .map(|s| String::from_utf8(s.to_vec()).unwrap())
        .collect()
}

#[test]
fn what_linux_needs() {
    let blob = TREE.build().unwrap();
    let fdt = Fdt::new(&blob).unwrap();
    for (path, name, value) in [
        ("/", "device_type", "chrp"),
        ("/", "compatible", "qemu,pseries"),
        ("/chosen", "bootargs", "console=hvc0"),
        ("/chosen", "linux,stdout-path", "/vdevice/vty@71000000"),
        ("/memory@0", "device_type", "memory"),
        (
            "/interrupt-controller@0",
            "device_type",
            "PowerPC-External-Interrupt-Presentation",
        ),
        ("/interrupt-controller@0", "compatible", "IBM,ppc-xicp"),
        ("/vdevice", "device_type", "vdevice"),
        ("/vdevice", "compatible", "IBM,vdevice"),
        ("/vdevice/vty@71000000", "device_type", "serial"),
        ("/vdevice/vty@71000001", "compatible", "hvterm1"),
        (
            "/ibm,platform-facilities/ibm,random-v1",
            "compatible",
            "ibm,random",
        ),
    ] {
        assert_eq!(strings(&fdt, path, name), [value], "{path}/{name}");
    }
    for (path, name, value) in [
        ("/", "#address-cells", &[2][..]),
        ("/", "#size-cells", &[2]),
        ("/chosen", "linux,initrd-start", &[0, 0x900_0000]),
        ("/chosen", "linux,initrd-end", &[0, 0x912_2789]),
        ("/memory@0", "reg", &[0, 0, 0, 0x4000_0000]),
        ("/cpus", "#address-cells", &[1]),
        ("/cpus", "#size-cells", &[0]),
        ("/rtas", "linux,rtas-base", &[0x810_0000]),
        ("/rtas", "linux,rtas-entry", &[0x810_0000]),
        ("/rtas", "rtas-size", &[0x1000]),
        (
            "/interrupt-controller@0",
            "ibm,interrupt-server-ranges",
            &[0, 2],
        ),
        ("/interrupt-controller@0", "#interrupt-cells", &[2]),
        ("/vdevice/vty@71000000", "reg", &[0x7100_0000]),
        ("/vdevice/vty@71000001", "interrupts", &[0x1101, 0]),
    ] {
        assert_eq!(cells(&fdt, path, name), value, "{path}/{name}");
    }
    let xics = cells(&fdt, "/interrupt-controller@0", "phandle");
    assert_eq!(cells(&fdt, "/", "interrupt-parent"), xics);
    assert_eq!(
        cells(&fdt, "/vdevice/vty@71000000", "interrupt-parent"),
        xics
    );
}

#[test]
fn one_core_node_for_each_vcpu() {
    let blob = Tree { vcpus: 3, ..TREE }.build().unwrap();
    let fdt = Fdt::new(&blob).unwrap();
    for n in 0..3 {
        let path = format!("/cpus/PowerPC,POWER9@{n}");
        assert_eq!(strings(&fdt, &path, "device_type"), ["cpu"]);
        for (name, value) in [
            ("reg", &[n][..]),
            ("ibm,ppc-interrupt-server#s", &[n]),
            ("ibm,pft-size", &[0, 23]),
            (
                "ibm,segment-page-sizes",
                &[12, 0, 1, 12, 0, 16, 0x110, 1, 16, 1],
            ),
            (
                "ibm,processor-segment-sizes",
                &[0x1c, 0x28, 0xffff_ffff, 0xffff_ffff],
            ),
            ("ibm,slb-size", &[32]),
            ("ibm,vmx", &[2]),
            ("cpu-version", &[0x4e_1200]),
            ("timebase-frequency", &[512_000_000]),
            ("clock-frequency", &[1_000_000_000]),
            ("d-cache-line-size", &[128]),
            ("i-cache-block-size", &[128]),
        ] {
            assert_eq!(cells(&fdt, &path, name), value, "{name}");
        }
    }
    assert!(fdt.find_node("/cpus/PowerPC,POWER9@3").is_none());
}

#[test]
fn only_what_is_there_is_advertised() {
    let blob = TREE.build().unwrap();
    let fdt = Fdt::new(&blob).unwrap();
    let functions = strings(&fdt, "/rtas", "ibm,hypertas-functions");
    assert_eq!(functions, HYPERTAS_FUNCTIONS);
    for service in SERVICES {
        assert_eq!(
            cells(&fdt, "/rtas", service.name),
            [service.token],
            "{}",
            service.name
        );
    }
    let rtas = fdt.find_node("/rtas").unwrap();
    for absent in [
        "ibm,nmi-register",
        "event-scan",
        "nvram-fetch",
        "ibm,change-msi",
    ] {
        assert!(rtas.property(absent).is_none());
    }
    let plain = Tree {
        random: false,
        initrd: None,
        terminals: &[],
        ..TREE
    }
    .build()
    .unwrap();
    let fdt = Fdt::new(&plain).unwrap();
    assert!(fdt.find_node("/ibm,platform-facilities").is_none());
    let chosen = fdt.find_node("/chosen").unwrap();
    assert!(chosen.property("linux,initrd-start").is_none());
    assert!(chosen.property("linux,stdout-path").is_none());
}

#[test]
fn sixteen_mib_pages_are_an_option() {
    let blob = Tree {
        page_sizes: PAGES_64K_AND_16M,
        ..TREE
    }
    .build()
    .unwrap();
    let fdt = Fdt::new(&blob).unwrap();
    let sizes = cells(&fdt, "/cpus/PowerPC,POWER9@0", "ibm,segment-page-sizes");
    let expected = [
        12, 0, 1, 12, 0, //
        16, 0x110, 1, 16, 1, //
        24, 0x100, 1, 24, 0,
    ];
    assert_eq!(sizes, expected);
    // Every encoding is one that an HPTE can have.
    for size in PAGES_64K_AND_16M {
        for (shift, encoding) in size.pages.iter().filter(|(shift, _)| *shift != 12) {
            let found = partita_papr::PageSize::decode(4, u64::from(*encoding) << 12).unwrap();
            assert_eq!((found.base_shift(), found.shift()), (size.shift, *shift));
        }
    }
}

#[test]
fn rtas_and_initrd_are_reserved_and_the_boot_cpu_is_0() {
    let blob = TREE.build().unwrap();
    let fdt = Fdt::new(&blob).unwrap();
    let reserved: Vec<_> = fdt
        .memory_reservations()
        .map(|r| (r.address() as u64, r.size() as u64))
        .collect();
    assert_eq!(reserved, [(0x810_0000, 0x1000), (0x900_0000, 0x12_2789)]);
    assert_eq!(u32::from_be_bytes(blob[28..32].try_into().unwrap()), 0);
    assert!(
        Tree {
            initrd: None,
            ..TREE
        }
        .build()
        .is_ok()
    );
}

#[test]
fn trees_that_cannot_be() {
    let build = |tree: Tree<'_>| tree.build().unwrap_err();
    for hpt_order in [0, 17, 37, u32::MAX] {
        assert_eq!(
            build(Tree { hpt_order, ..TREE }),
            TreeError::HptOrder(hpt_order)
        );
    }
    assert_eq!(build(Tree { vcpus: 0, ..TREE }), TreeError::NoVcpu);
    let high = Range {
        start: 1 << 32,
        end: (1 << 32) + RTAS_BYTES,
    };
    assert_eq!(
        build(Tree { rtas: high, ..TREE }),
        TreeError::RtasAddress(1 << 32)
    );
    assert_eq!(
        build(Tree {
            bootargs: "a\0b",
            ..TREE
        }),
        TreeError::Name
    );
    assert_eq!(
        build(Tree {
            processor: "Power PC",
            ..TREE
        }),
        TreeError::Name
    );
    assert!(matches!(
        build(Tree { vcpus: 200, ..TREE }),
        TreeError::TooLong(_)
    ));
    assert!(Tree { vcpus: 64, ..TREE }.build().is_ok());
    let overlapping = Range {
        start: RTAS.start,
        end: RTAS.end,
    };
    assert_eq!(
        build(Tree {
            initrd: Some(overlapping),
            ..TREE
        }),
        TreeError::Format
    );
}
