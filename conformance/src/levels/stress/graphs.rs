//! Random graphs of core operations and macros, against their formulas in f64.
//!
//! Shapes, depth, operands and numbers of tokens are drawn; what a graph must give is computed here from the definitions
//! of the operations, once in f64 and once with every step rounded to f32: the second tells the noise of honest
//! arithmetic on this very graph. For a backend that declares a coarser class it is computed as that class rounds, too.

use camelid_core::graph::{Graph, GraphBuilder, GraphError, ValueId};
use camelid_core::ops::{Activation, Op};
use camelid_host::{Buffer, DeviceHandle};

use crate::case::{Case, Context, Evidence, Failure, Measure, Problem, Profile};
use crate::compare::{max_over_rms, nmse, worst};
use crate::graph_case::contents::SplitMix64;
use crate::graph_case::expect::WORST;
use crate::levels::rig::{self, Rig};
use crate::tolerance::{CoarseNoise, Limits, MathClass, Noise};

use super::rounding::Rounding;

const SEEDS: u64 = 40;

/// Its cases.
pub(super) fn cases() -> Vec<Case> {
    let make = |seed| {
        let id = format!("stress/graphs/{seed}");
        let own = id.clone();
        let about = "a random graph against its formulas in f64";
        Case::new(id, Profile::Core, about, move |cx: &Context<'_>| run(&own, cx, seed))
    };
    (0..SEEDS).map(make).collect()
}

/// A value of `[T, columns]`: where it comes from.
#[derive(Clone, Debug)]
enum Node {
    Input,
    Add(usize, usize),
    Mul(usize, usize),
    Silu(usize),
    Softmax(usize, f32),
    RmsNorm {
        x: usize,
        weight: Vec<f32>,
        eps: f32,
    },
    Linear {
        x: usize,
        weight: Vec<f32>,
        bias: Option<Vec<f32>>,
    },
    Swiglu(usize, usize),
    /// The norm of the sum; the sum itself is not looked at.
    AddRmsNorm {
        x: usize,
        y: usize,
        weight: Vec<f32>,
        eps: f32,
    },
    Rows {
        table: Vec<f32>,
        rows: usize,
    },
}

struct Random {
    bits: SplitMix64,
    columns: Vec<usize>,
    nodes: Vec<Node>,
}

const WIDTHS: [usize; 14] = [1, 2, 3, 5, 8, 13, 16, 17, 31, 32, 33, 48, 64, 67];

impl Random {
    fn below(&mut self, n: usize) -> usize {
        (self.bits.next_u64() % n as u64) as usize
    }

    fn normals(&mut self, count: usize, scale: f64) -> Vec<f32> {
        (0..count).map(|_| (self.bits.normal() * scale) as f32).collect()
    }

    fn push(&mut self, node: Node, columns: usize) {
        self.nodes.push(node);
        self.columns.push(columns);
    }

    /// A value of the same width as `x`, possibly itself.
    fn peer(&mut self, x: usize) -> usize {
        let peers: Vec<usize> = (0..self.columns.len()).filter(|v| self.columns[*v] == self.columns[x]).collect();
        peers[self.below(peers.len())]
    }

    /// Two inputs and three to ten operations.
    fn new(seed: u64) -> Random {
        let mut r = Random { bits: SplitMix64(0x5eed + seed), columns: Vec::new(), nodes: Vec::new() };
        for _ in 0..2 {
            let columns = WIDTHS[r.below(WIDTHS.len())];
            r.push(Node::Input, columns);
        }
        for _ in 0..3 + r.below(8) {
            // Mostly the newest value, so that graphs are deep.
            let x = if r.below(3) == 0 { r.below(r.nodes.len()) } else { r.nodes.len() - 1 };
            let columns = r.columns[x];
            match r.below(10) {
                0 => {
                    let y = r.peer(x);
                    r.push(Node::Add(x, y), columns);
                }
                1 => {
                    let y = r.peer(x);
                    r.push(Node::Mul(x, y), columns);
                }
                2 => r.push(Node::Silu(x), columns),
                3 => {
                    let scale = [1.0, 0.25, 3.0][r.below(3)];
                    r.push(Node::Softmax(x, scale), columns);
                }
                4 => {
                    let weight = r.normals(columns, 1.0);
                    let eps = [1e-5, 1e-2][r.below(2)];
                    r.push(Node::RmsNorm { x, weight, eps }, columns);
                }
                5 => {
                    let y = r.peer(x);
                    r.push(Node::Swiglu(x, y), columns);
                }
                6 => {
                    let (y, weight) = (r.peer(x), r.normals(columns, 1.0));
                    r.push(Node::AddRmsNorm { x, y, weight, eps: 1e-3 }, columns);
                }
                7 => {
                    let (rows, columns) = (1 + r.below(30), WIDTHS[r.below(WIDTHS.len())]);
                    let table = r.normals(rows * columns, 1.0);
                    r.push(Node::Rows { table, rows }, columns);
                }
                _ => {
                    let to = WIDTHS[r.below(WIDTHS.len())];
                    let weight = r.normals(to * columns, 1.0 / (columns as f64).sqrt());
                    let bias = (r.below(2) == 0).then(|| r.normals(to, 0.5));
                    r.push(Node::Linear { x, weight, bias }, to);
                }
            }
        }
        r
    }

    /// The last value and one before it: what the host reads.
    fn outputs(&self) -> [usize; 2] {
        [self.nodes.len() - 1, (self.nodes.len() - 1) / 2 + 1]
    }

    fn graph(&self, tokens: usize, device: &DeviceHandle) -> Result<(Graph, Vec<(String, Buffer)>), Problem> {
        let mut weights = Vec::new();
        let mut load = |name: String, dims: &[usize], values: &[f32]| -> Result<(), Problem> {
            let buffer = rig::weight(device, &name, dims, values, 0)?;
            weights.push((name, buffer));
            Ok(())
        };
        for (n, node) in self.nodes.iter().enumerate() {
            let columns = self.columns[n];
            match node {
                Node::RmsNorm { weight, .. } | Node::AddRmsNorm { weight, .. } => {
                    load(format!("w{n}"), &[columns], weight)?
                }
                Node::Linear { x, weight, bias } => {
                    load(format!("w{n}"), &[columns, self.columns[*x]], weight)?;
                    if let Some(bias) = bias {
                        load(format!("b{n}"), &[columns], bias)?;
                    }
                }
                Node::Rows { table, rows } => load(format!("w{n}"), &[*rows, columns], table)?,
                _ => {}
            }
        }
        let graph = rig::graph(tokens, |g| {
            let mut ids: Vec<ValueId> = Vec::new();
            for n in 0..self.nodes.len() {
                let id = self.build(g, n, &ids)?;
                ids.push(id);
            }
            for output in self.outputs() {
                g.output(format!("y{output}"), ids[output])?;
            }
            Ok(())
        })?;
        Ok((graph, weights))
    }

    fn build(&self, g: &mut GraphBuilder, n: usize, ids: &[ValueId]) -> Result<ValueId, GraphError> {
        let columns = self.columns[n];
        let mut weight = |name: &str, dims: &[usize]| g.weight(format!("{name}{n}"), rig::fixed(dims));
        let (op, operands) = match &self.nodes[n] {
            Node::Input => return g.input(format!("x{n}"), rig::rows(columns)),
            Node::Add(x, y) => (Op::Add, vec![ids[*x], ids[*y]]),
            Node::Mul(x, y) => (Op::Mul, vec![ids[*x], ids[*y]]),
            Node::Silu(x) => (Op::Activation(Activation::Silu), vec![ids[*x]]),
            Node::Softmax(x, scale) => (Op::Softmax { scale: *scale }, vec![ids[*x]]),
            Node::Swiglu(x, y) => (Op::Swiglu, vec![ids[*x], ids[*y]]),
            Node::RmsNorm { x, eps, .. } => (Op::RmsNorm { eps: *eps }, vec![ids[*x], weight("w", &[columns])?]),
            Node::AddRmsNorm { x, y, eps, .. } => {
                let operands = vec![ids[*x], ids[*y], weight("w", &[columns])?];
                return Ok(g.push(Op::AddRmsNorm { eps: *eps }, &operands)?[1]);
            }
            Node::Linear { x, bias, .. } => {
                let mut operands = vec![ids[*x], weight("w", &[columns, self.columns[*x]])?];
                if bias.is_some() {
                    operands.push(weight("b", &[columns])?);
                }
                (Op::Linear, operands)
            }
            Node::Rows { rows, .. } => {
                let table = weight("w", &[*rows, columns])?;
                let index = g.input(format!("i{n}"), rig::indices())?;
                (Op::GatherRows, vec![table, index])
            }
        };
        Ok(g.push(op, &operands)?[0])
    }

    /// Every value of `tokens` rows, rounded where `rounding` says.
    fn evaluate(&self, inputs: &[Vec<f32>], index: &[i32], tokens: usize, rounding: &Rounding) -> Vec<Vec<f64>> {
        let round = rounding.step;
        let mut values: Vec<Vec<f64>> = Vec::new();
        for (n, node) in self.nodes.iter().enumerate() {
            let columns = self.columns[n];
            let elementwise = |x: &usize, y: &usize, f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
                values[*x].iter().zip(&values[*y]).map(|(x, y)| round(f(*x, *y))).collect()
            };
            let silu = |x: f64| round(x / round(1.0 + round((-x).exp())));
            let by_row =
                |x: &[f64], f: &dyn Fn(&[f64]) -> Vec<f64>| x.chunks(columns).flat_map(f).collect::<Vec<f64>>();
            let norm = |x: &[f64], weight: &[f32], eps: f32| {
                by_row(x, &|row| {
                    let sum = row.iter().fold(0.0, |sum, x| round(sum + round(x * x)));
                    let scale = round(1.0 / round(round(round(sum / columns as f64) + f64::from(eps)).sqrt()));
                    row.iter().zip(weight).map(|(x, w)| round(round(x * scale) * f64::from(*w))).collect()
                })
            };
            let value = match node {
                Node::Input => inputs[n][..tokens * columns].iter().map(|x| f64::from(*x)).collect(),
                Node::Add(x, y) => elementwise(x, y, &|x, y| x + y),
                Node::Mul(x, y) => elementwise(x, y, &|x, y| x * y),
                Node::Silu(x) => values[*x].iter().map(|x| silu(*x)).collect(),
                Node::Swiglu(x, y) => elementwise(x, y, &|x, y| silu(x) * y),
                Node::Softmax(x, scale) => by_row(&values[*x], &|row| {
                    let z: Vec<f64> = row.iter().map(|x| round(x * f64::from(*scale))).collect();
                    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let e: Vec<f64> = z.iter().map(|z| round(round(z - max).exp())).collect();
                    let sum = e.iter().fold(0.0, |sum, e| round(sum + e));
                    e.iter().map(|e| round(e / sum)).collect()
                }),
                Node::RmsNorm { x, weight, eps } => norm(&values[*x], weight, *eps),
                Node::AddRmsNorm { x, y, weight, eps } => norm(&elementwise(x, y, &|x, y| x + y), weight, *eps),
                Node::Linear { x, weight, bias } => {
                    let (depth, weight) = (self.columns[*x], rounding.weights(weight));
                    let dot = |row: &[f64], n: usize| {
                        let terms = row.iter().zip(&weight[n * depth..(n + 1) * depth]);
                        let sum = terms.fold(0.0, |sum, (x, w)| round(sum + round(x * w)));
                        bias.as_ref().map_or(sum, |bias| round(sum + f64::from(bias[n])))
                    };
                    values[*x]
                        .chunks(depth)
                        .map(|row| rounding.activations(row))
                        .flat_map(|row| (0..columns).map(|n| dot(&row, n)).collect::<Vec<_>>())
                        .collect()
                }
                Node::Rows { table, rows } => {
                    let row = |i: &i32| &table[(*i as usize % rows) * columns..][..columns];
                    index[..tokens].iter().flat_map(|i| row(i).iter().map(|x| f64::from(*x))).collect()
                }
            };
            let moves = matches!(node, Node::Input | Node::Rows { .. });
            values.push(if moves { value } else { rounding.results(value) });
        }
        values
    }
}

fn run(id: &str, cx: &Context<'_>, seed: u64) -> Result<Evidence, Problem> {
    let mut random = Random::new(seed);
    let most = 1 + random.below(40);
    let device = cx.subject.handle()?;
    let (graph, weights) = random.graph(most, &device)?;
    let given: Vec<(&str, &Buffer)> = weights.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
    let rig = Rig::new(&device, graph, &given)?;
    let class = cx.subject.claims.class(id, MathClass::F32);
    let mut evidence = Evidence::default();
    for (step, tokens) in [most, 1, 1 + random.below(most)].into_iter().enumerate() {
        let columns = random.columns.clone();
        let scale = [1.0, 0.1, 4.0][step];
        let inputs: Vec<Vec<f32>> = columns[..2].iter().map(|c| random.normals(tokens * c, scale)).collect();
        let index: Vec<i32> = (0..tokens).map(|_| random.below(30) as i32).collect();
        for (n, values) in inputs.iter().enumerate() {
            rig.write(&format!("x{n}"), values)?;
        }
        for (n, node) in random.nodes.iter().enumerate() {
            if let Node::Rows { rows, .. } = node {
                let index: Vec<i32> = index.iter().map(|i| i % *rows as i32).collect();
                rig.write_ints(&format!("i{n}"), &index)?;
            }
        }
        rig.run(tokens)?;
        let evaluate = |rounding: &Rounding| random.evaluate(&inputs, &index, tokens, rounding);
        let exact = evaluate(&Rounding::steps(|x| x));
        let rounded = evaluate(&Rounding::steps(|x| f64::from(x as f32)));
        let coarse: Vec<_> = Rounding::of_class(class).iter().map(evaluate).collect();
        for output in random.outputs() {
            let what = format!("y{output}, step {step}");
            let shape = [tokens, columns[output]];
            let actual = rig.read(&format!("y{output}"), tokens * columns[output])?;
            let noise = noise_of(&what, &rounded[output], &exact[output])?;
            let mut of_class = Noise::default();
            for run in &coarse {
                of_class = of_class.max(noise_of(&what, &run[output], &exact[output])?);
            }
            let limits = class.case_limits(noise, &CoarseNoise::of(class, of_class));
            evidence.measures.extend(measure((class, limits), &what, &shape, &actual, &exact[output])?);
        }
    }
    Ok(evidence)
}

/// How far an honest program's values are.
fn noise_of(what: &str, honest: &[f64], expected: &[f64]) -> Result<Noise, Problem> {
    let broken = |e: crate::compare::CompareError| Problem::Blocked(format!("{what}: the formula is not finite: {e}"));
    let honest: Vec<f32> = honest.iter().map(|x| *x as f32).collect();
    Ok(Noise { nmse: nmse(&honest, expected).map_err(broken)?, max: max_over_rms(&honest, expected).map_err(broken)? })
}

/// `actual` against `expected`, with the limits of a class.
fn measure(
    (class, limits): (MathClass, Limits),
    what: &str,
    shape: &[usize],
    actual: &[f32],
    expected: &[f64],
) -> Result<Vec<Measure>, Problem> {
    let failed = |message: String, measures: Vec<Measure>| {
        Problem::Fail(Box::new(Failure { message, measures, worst: worst(what, shape, actual, expected, WORST) }))
    };
    let metrics = nmse(actual, expected).and_then(|n| Ok((n, max_over_rms(actual, expected)?)));
    let (n, m) = metrics.map_err(|e| failed(format!("{what}: {e}"), Vec::new()))?;
    let measures = vec![
        Measure { metric: "nmse".into(), what: what.into(), value: n, limit: limits.nmse },
        Measure { metric: "max/rms".into(), what: what.into(), value: m, limit: limits.max },
    ];
    match measures.iter().find(|m| !m.passes()) {
        None => Ok(measures),
        Some(m) => {
            let message =
                format!("{what}: {} is {:.2e}, the limit of class {class} is {:.2e}", m.metric, m.value, m.limit);
            Err(failed(message, measures))
        }
    }
}
