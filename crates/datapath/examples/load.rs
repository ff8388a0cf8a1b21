//! Loads every program and says what the verifier thinks.
use aya::{EbpfLoader, VerifierLogLevel, programs::{RawTracePoint, SchedClassifier, Xdp}};
fn main() {
    let mut bpf = EbpfLoader::new().verifier_log_level(if std::env::var("V").is_ok() {VerifierLogLevel::DEBUG | VerifierLogLevel::STATS} else {VerifierLogLevel::STATS}).load(pointsman_datapath::OBJECT).unwrap();
    for name in ["director_xdp", "director_tcx", "sweep"] {
        let p = bpf.program_mut(name).unwrap();
        let r = match name {
            "director_xdp" => { let x: &mut Xdp = p.try_into().unwrap(); x.load() }
            "director_tcx" => { let x: &mut SchedClassifier = p.try_into().unwrap(); x.load() }
            _ => { let x: &mut RawTracePoint = p.try_into().unwrap(); x.load() }
        };
        match r { Ok(()) => {
            let info = match name { "director_xdp" => { let x: &mut Xdp = bpf.program_mut(name).unwrap().try_into().unwrap(); x.info() }
             "director_tcx" => { let x: &mut SchedClassifier = bpf.program_mut(name).unwrap().try_into().unwrap(); x.info() }
             _ => { let x: &mut RawTracePoint = bpf.program_mut(name).unwrap().try_into().unwrap(); x.info() } }.unwrap();
            println!("{name}: ok verified {:?} xlated {:?} jited {}", info.verified_instruction_count(), info.size_translated(), info.size_jitted());
        }
            Err(e) => { let s = format!("{e:?}"); let s = s.replace("\\n", "\n"); let lines: Vec<_> = s.lines().collect(); println!("{name}: FAIL"); for l in lines.iter().take(5) {println!("{l}")} println!("..."); for l in lines.iter().rev().take(60).rev() { println!("{l}"); } }
        }
    }
}
