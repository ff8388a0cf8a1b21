//! BFD control packets: as keepalived 2.2.7 sent them, and as nobody should.

use pointsman_wire::control::{BfdState, ControlError, Diagnostic};
use pointsman_wire::{Bfd, Control};
use proptest::prelude::*;

/// What keepalived 2.2.7 sent: nothing heard yet, both hear each other, nothing heard any more.
const GOLDEN: [&str; 4] = [
    "20400318 1c3960ef 00000000 000f4240 0000c350 00000000",
    "20800318 eda9a3f9 eda9a3f9 000f4240 0000c350 00000000",
    "20e00318 eda9a3f9 eda9a3f9 0000c350 0000c350 00000000",
    "21400318 eda9a3f9 00000000 000f4240 0000c350 00000000",
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter_map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect();
    let pairs = digits.chunks(2);
    pairs.map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn golden(at: usize) -> Control {
    Control::parse(&bytes(GOLDEN[at])).expect("a control packet")
}

#[test]
fn what_keepalived_sent_is_read_and_written_again() {
    for hex in GOLDEN {
        let packet = bytes(hex);
        let control = Control::parse(&packet).expect("a control packet");
        assert_eq!(control.bytes().to_vec(), packet, "{control}");
    }
    assert_eq!(
        golden(0),
        Control {
            state: BfdState::Down,
            diagnostic: Diagnostic::NONE,
            poll: false,
            is_final: false,
            independent: false,
            demand: false,
            multiplier: 3,
            my_discriminator: 0x1c39_60ef,
            your_discriminator: 0,
            desired_min_tx: 1_000_000,
            required_min_rx: 50_000,
            required_min_echo_rx: 0,
        }
    );
    assert_eq!(golden(1).state, BfdState::Init);
    assert!(golden(2).poll && golden(2).state == BfdState::Up);
    assert_eq!(golden(3).diagnostic, Diagnostic::EXPIRED);
}

#[test]
fn a_packet_is_shown_as_by_tcpdump() {
    assert_eq!(
        golden(2).to_string(),
        "BFDv1, Control, State Up, Flags: [Poll], Diagnostic: No Diagnostic (0x00), \
         Detection Timer Multiplier: 3 (150 ms Detection time), BFD Length: 24, \
         My Discriminator: 0xeda9a3f9, Your Discriminator: 0xeda9a3f9, \
         Desired min Tx Interval: 50 ms, Required min Rx Interval: 50 ms, \
         Required min Echo Interval: 0 ms"
    );
    assert!(
        golden(3)
            .to_string()
            .contains("Diagnostic: Control Detection Time Expired (0x01)")
    );
}

#[test]
fn what_rfc_5880_discards_is_discarded_and_told_why() {
    let change = |at: usize, byte: u8| {
        let mut packet = bytes(GOLDEN[2]);
        packet[at] = byte;
        Control::parse(&packet).expect_err("it is wrong")
    };
    let found = 24;
    assert_eq!(change(0, 0x40), ControlError::Version(2));
    assert_eq!(change(1, 0xe4), ControlError::Authenticated);
    assert_eq!(change(1, 0xe1), ControlError::Multipoint);
    assert_eq!(change(1, 0xf0), ControlError::PollAndFinal);
    assert_eq!(change(2, 0), ControlError::NoMultiplier);
    assert_eq!(change(3, 23), ControlError::Length { said: 23, found });
    assert_eq!(change(3, 25), ControlError::Length { said: 25, found });
    let longer = [bytes(GOLDEN[2]), vec![0; 4]].concat();
    assert_eq!(
        Control::parse(&longer),
        Ok(golden(2)),
        "what follows it is nothing"
    );
    let mut longer = longer;
    longer[3] = 28;
    let length = ControlError::Length {
        said: 28,
        found: 28,
    };
    assert_eq!(
        Control::parse(&longer),
        Err(length),
        "what it may hold is not known"
    );
    assert_eq!(
        Control::parse(&[0x20; 23]),
        Err(ControlError::Cut { found: 23 })
    );
    let without = |range: std::ops::Range<usize>, from: usize| {
        let mut packet = bytes(GOLDEN[from]);
        packet[range].fill(0);
        Control::parse(&packet)
    };
    assert_eq!(without(4..8, 2), Err(ControlError::NoDiscriminator));
    assert_eq!(
        without(8..12, 2),
        Err(ControlError::NoSession(BfdState::Up))
    );
    assert_eq!(
        without(8..12, 1),
        Err(ControlError::NoSession(BfdState::Init))
    );
    assert!(without(8..12, 0).is_ok(), "who is down may not know");
    for error in [change(1, 0xe4), change(2, 0), change(3, 23)] {
        assert!(
            error.to_string().starts_with("a BFD control packet"),
            "{error}"
        );
        assert!(!error.name().is_empty());
    }
}

fn control() -> impl Strategy<Value = Control> {
    let flags = (0..4_usize, 0..32_u8, 0..3_u8, any::<bool>(), any::<bool>());
    let numbers = (1..=u8::MAX, 1..=u32::MAX, 1..=u32::MAX, any::<[u32; 3]>());
    (flags, numbers).prop_map(|(flags, numbers)| {
        let (state, diagnostic, asks, independent, demand) = flags;
        let (multiplier, my_discriminator, your_discriminator, [tx, rx, echo]) = numbers;
        Control {
            state: BfdState::ALL[state],
            diagnostic: Diagnostic::new(diagnostic),
            poll: asks == 1,
            is_final: asks == 2,
            independent,
            demand,
            multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx: tx,
            required_min_rx: rx,
            required_min_echo_rx: echo,
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(control in control()) {
        prop_assert_eq!(Control::parse(&control.bytes()), Ok(control));
    }

    #[test]
    fn whatever_is_read_says_what_its_bytes_say(
        mut packet in proptest::collection::vec(any::<u8>(), 0..40),
        likely in any::<bool>(),
    ) {
        if likely && packet.len() >= Bfd::LEN as usize {
            packet[0] = 0x20 | packet[0] & 0x1f;
            packet[3] = Bfd::LEN as u8;
        }
        if let Ok(control) = Control::parse(&packet) {
            prop_assert_eq!(&control.bytes()[..], &packet[..Bfd::LEN as usize]);
            let _ = control.to_string();
        }
    }
}
