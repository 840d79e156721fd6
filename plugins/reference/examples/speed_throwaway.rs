#[path = "../tests/common/mod.rs"]
mod common;
use camelid_core::DType;
use camelid_core::graph::*;
use camelid_core::attention::CausalAttention;
use camelid_core::llama::*;
use common::*;
use std::time::Instant;
fn cpu() -> f64 { let mut t = 0.0; for d in std::fs::read_dir("/proc/self/task").unwrap() { let p = d.unwrap().path().join("schedstat"); t += std::fs::read_to_string(p).unwrap().split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9; } t }
fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) == Some("linear") {
        for threads in [1, 2] {
            for (dt, n, k) in [(DType::Q4_1, 1536, 576), (DType::Q4_1, 576, 1536), (DType::Q8_0, 49152, 576), (DType::F32, 1536, 576), (DType::F16, 1536, 576)] {
                for t in [1usize, 64] {
                    let mut g = GraphBuilder::new(up_to(SymbolValues::new(t, 0, 0, 0)));
                    let mut x = g.input("x", tokens_by(DType::F32, k)).unwrap();
                    let w = g.weight("w", ty(dt, &[n.into(), k.into()])).unwrap();
                    let x0 = x;
                    for _ in 0..4 { x = g.linear(x0, w, None).unwrap(); }
                    g.output("y", x).unwrap();
                    let c = Contents::from([("x".into(), f32_bytes(&noise(1, t * k))), ("w".into(), weight_bytes(dt, 2, n, k))]);
                    let mut rig = Rig::new(&g.finish(), &c, threads);
                    let s = SymbolValues::new(t, 0, 0, 0);
                    let mut best = f64::MAX;
                    for _ in 0..12 { let a = cpu(); rig.run(&s).unwrap(); best = best.min(cpu() - a); }
                    println!("threads {threads} {dt} [{n},{k}] T={t}: {:.3} ns/weight element, {:.3} ns/mac", best * 1e9 / (4 * n * k) as f64, best * 1e9 / (4 * n * k * t) as f64);
                }
            }
        }
        return;
    }
    let threads: usize = args[2].parse().unwrap();
    let json = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","vocab_size":49152,"hidden_size":576,"intermediate_size":1536,"num_hidden_layers":30,"num_attention_heads":9,"num_key_value_heads":3,"max_position_embeddings":8192,"rms_norm_eps":1e-5,"rope_theta":100000.0,"hidden_act":"silu","tie_word_embeddings":true}"#;
    let config = LlamaConfig::from_json(json).unwrap();
    let mut types = std::collections::HashMap::new();
    for t in tensors::expected(&config, false) {
        let dt = if t.shape.len() == 1 { DType::F32 } else if t.name.contains("embed") { DType::Q8_0 } else { DType::Q4_1 };
        let dims: Vec<Dim> = t.shape.iter().map(|n| (*n).into()).collect();
        types.insert(t.name, ty(dt, &dims));
    }
    let layout = CacheLayout { num_slots: 8192, block_size: 16, blocks_per_sequence: 512, max_sequences: 1 };
    let attention = CausalAttention;
    let options = GraphOptions { attention: &attention, layout, kv_dtype: DType::F32,
        range: SymbolRange { min: SymbolValues::new(1, 1, 0, 1), max: SymbolValues::new(512, 1, 512, 8192) },
        positions: 8192, input: Input::Tokens, window: None, hidden_states: false };
    let g = build(&config, &types, &options).unwrap();
    let g = lowered_for_device(&g);
    let mut contents = Contents::new();
    for (i, (_, v)) in g.bound_values().enumerate() {
        if v.kind == ValueKind::Weight {
            let d = v.ty.shape.resolve(&g.range().max);
            let (r, c) = if d.len() == 2 { (d[0], d[1]) } else { (1, d[0]) };
            contents.insert(v.name.clone(), weight_bytes(v.ty.dtype, i as u64, r, c));
        }
    }
    let a = Instant::now();
    let mut rig = Rig::new(&g, &contents, threads);
    println!("rig {:?}", a.elapsed());
    let table: Vec<i32> = (0..512).collect();
    let mut step = |start: usize, n: usize| {
        let ids: Vec<i32> = (start..start + n).map(|i| (i * 7 % 49152) as i32).collect();
        let pos: Vec<i32> = (start..start + n).map(|i| i as i32).collect();
        rig.write(&Contents::from([("tokens".into(), i32_bytes(&ids)), ("positions".into(), i32_bytes(&pos)), ("slot".into(), i32_bytes(&pos)),
            ("block_table".into(), i32_bytes(&table)), ("q_start".into(), i32_bytes(&[0, n as i32])), ("seq_len".into(), i32_bytes(&[(start + n) as i32])), ("out_row".into(), i32_bytes(&[n as i32 - 1]))]));
        let (a, c) = (Instant::now(), cpu());
        rig.run(&SymbolValues::new(n, 1, 1, start + n)).unwrap();
        if n > 1 { println!("cpu {:.3} s", cpu() - c); }
        if std::env::var("CPU").is_ok() { cpu() - c } else { a.elapsed().as_secs_f64() }
    };
    let p = step(0, 512); println!("threads {threads} prefill 512: {:.2} s = {:.1} tok/s", p, 512.0 / p);
    let mut best = f64::MAX; let mut total = 0.0;
    for i in 0..32 { let d = step(512 + i, 1); best = best.min(d); total += d; }
    println!("threads {threads} decode at 512: mean {:.1} tok/s, best {:.1}", 32.0 / total, 1.0 / best);
}
