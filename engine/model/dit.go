package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// DiTOptions shapes a DiT. Images are square; their Classes are the conditions.
type DiTOptions struct {
	Images
	Patch, Hidden, Layers, Heads int
}

// Validate says what no network can be built from.
func (o DiTOptions) Validate() error {
	if err := o.Images.validate(); err != nil {
		return err
	}
	switch {
	case o.Height != o.Width || o.Patch < 1 || o.Height%o.Patch != 0:
		return fmt.Errorf("model: a DiT of %dx%d images in patches of %d: images must be square, and whole patches", o.Height, o.Width, o.Patch)
	case o.Layers < 1 || o.Heads < 1 || o.Hidden < 4 || o.Hidden%(4*o.Heads) != 0:
		return fmt.Errorf("model: a DiT of %d layers, %d heads and width %d: the width must be a multiple of four times the heads", o.Layers, o.Heads, o.Hidden)
	}
	return nil
}

// DiT tells the noise in noisy images, given how noisy they are and what they show: a
// transformer over patches whose blocks hear of the time t and the class c through the
// scale and shift of their norms and the gates of their branches (adaLN-Zero; Peebles
// and Xie 2022, arXiv:2212.09748):
//
//	e = MLP(sin and cos of t) + E[c]
//	(β₁, γ₁, α₁, β₂, γ₂, α₂) = W SiLU(e) + b
//	x ← x + α₁ ⊙ Attention((1 + γ₁) ⊙ norm(x) + β₁)
//	x ← x + α₂ ⊙ MLP((1 + γ₂) ⊙ norm(x) + β₂)
//
// W and b are zero at first, so that every block starts as the identity. Layers are
// named as in the authors' code, but queries, keys and values are layers of their own.
type DiT struct {
	Options DiTOptions
	slots
	image               *ImageShape
	patch, time1, time2 *nn.Linear
	classes             *grad.Param
	blocks              []*ditBlock
	norm                *nn.LayerNorm // without weights
	last, lastChange    *nn.Linear
	heads               grad.Heads
	place               []float32 // what tells an image's patches apart
}

type ditBlock struct{ change, q, k, v, o, up, down *nn.Linear }

// ditTimes is the width of what the network is told about the time.
const ditTimes = 128

// NewDiT returns a network with random weights, all frozen: set Part to train.
func NewDiT(o DiTOptions, seed uint64) (*DiT, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	d, pixels := o.Hidden, o.Channels*o.Patch*o.Patch
	m := &DiT{
		Options: o, image: &ImageShape{Size: o.Height, Patch: o.Patch, Channels: o.Channels},
		heads: grad.Heads{Q: o.Heads, KV: o.Heads, Scale: float32(1 / math.Sqrt(float64(d/o.Heads))), Bidirectional: true},
	}
	m.patch = m.layer("x_embedder.proj", d, pixels, rng)
	m.time1, m.time2 = m.layer("t_embedder.mlp.0", d, ditTimes, rng), m.layer("t_embedder.mlp.2", d, d, rng)
	m.classes = m.table("y_embedder.embedding_table.weight", o.Classes, d, rng)
	for i := range o.Layers {
		at := fmt.Sprintf("blocks.%d.", i)
		m.blocks = append(m.blocks, &ditBlock{
			q: m.layer(at+"attn.q", d, d, rng), k: m.layer(at+"attn.k", d, d, rng), v: m.layer(at+"attn.v", d, d, rng),
			o: m.layer(at+"attn.proj", d, d, rng), up: m.layer(at+"mlp.fc1", 4*d, d, rng), down: m.layer(at+"mlp.fc2", d, 4*d, rng),
			change: m.zero(at+"adaLN_modulation.1", 6*d, d),
		})
	}
	m.lastChange, m.last = m.zero("final_layer.adaLN_modulation.1", 2*d, d), m.zero("final_layer.linear", pixels, d)
	ones := tensor.New(d)
	for i := range ones.F32() {
		ones.F32()[i] = 1
	}
	m.norm = &nn.LayerNorm{Weight: grad.NewParam("one", ones), Bias: grad.NewParam("zero", tensor.New(d)), Eps: 1e-6}
	m.place = m.places()
	return m, nil
}

// zero adds a layer that gives zero at first.
func (s *slots) zero(name string, out, in int) *nn.Linear {
	return s.matrix(name, name+".weight", name+".bias", out, in, 0, rand.New(rand.NewPCG(0, 0)))
}

// table adds rows to look up, W ~ N(0, 0.02²).
func (s *slots) table(name string, rows, width int, rng *rand.Rand) *grad.Param {
	t := tensor.New(rows, width)
	for i := range t.F32() {
		t.F32()[i] = float32(0.02 * rng.NormFloat64())
	}
	p := grad.NewParam(name, t)
	*s = append(*s, slot{name: name, shape: []int{rows, width}, param: p})
	return p
}

// Patches cuts images [n, channels, size, size] into rows of patches
// [n·patches, channels·patch·patch], which is how the network sees them.
func (m *DiT) Patches(pixels []float32, n int) []float32 { return cutPatches(pixels, n, m.image) }

// Join is the inverse of Patches.
func (m *DiT) Join(patches []float32, n int) []float32 {
	s := m.image
	out := make([]float32, n*s.pixels())
	side, at := s.Size/s.Patch, 0
	for i := range n {
		for p := range side * side {
			for c := range s.Channels {
				for y := range s.Patch {
					row := ((i*s.Channels+c)*s.Size+p/side*s.Patch+y)*s.Size + p%side*s.Patch
					copy(out[row:row+s.Patch], patches[at:at+s.Patch])
					at += s.Patch
				}
			}
		}
	}
	return out
}

// Noise returns the noise in x [n·patches, channels·patch·patch], the patches of n
// images, each with a time of [0, 1] and a class.
func (m *DiT) Noise(tp *grad.Tape, x *grad.Value, times []float32, classes []int32) *grad.Value {
	n, tokens := len(times), m.image.patches()
	of := make([]int, x.Rows) // image of each row
	seqs := grad.Sequences{Lengths: make([]int, n)}
	for i := range of {
		of[i] = i / tokens
	}
	for i := range seqs.Lengths {
		seqs.Lengths[i] = tokens
	}
	e := m.condition(tp, times, classes)
	x = tp.Add(m.patch.Apply(tp, x), tp.Const(slices.Repeat(m.place, n), x.Rows, m.Options.Hidden))
	for _, b := range m.blocks {
		x = tp.Scope(func() *grad.Value { return m.block(tp, b, x, e, of, seqs) })
	}
	return tp.Scope(func() *grad.Value {
		d := m.Options.Hidden
		c := m.lastChange.Apply(tp, e)
		h := changed(tp, m.norm.Apply(tp, x), tp.Slice(c, 0, d), tp.Slice(c, d, 2*d), of)
		return m.last.Apply(tp, h)
	})
}

func (m *DiT) block(tp *grad.Tape, b *ditBlock, x, e *grad.Value, of []int, seqs grad.Sequences) *grad.Value {
	d := m.Options.Hidden
	c := b.change.Apply(tp, e)
	part := func(i int) *grad.Value { return tp.Slice(c, i*d, (i+1)*d) }
	h := changed(tp, m.norm.Apply(tp, x), part(0), part(1), of)
	h = b.o.Apply(tp, tp.Attention(b.q.Apply(tp, h), b.k.Apply(tp, h), b.v.Apply(tp, h), m.heads, seqs))
	x = tp.Add(x, tp.Mul(h, tp.GatherRows(part(2), of)))
	h = changed(tp, m.norm.Apply(tp, x), part(3), part(4), of)
	h = b.down.Apply(tp, tp.GELUTanh(b.up.Apply(tp, h)))
	return tp.Add(x, tp.Mul(h, tp.GatherRows(part(5), of)))
}

// changed returns (1 + scale) ⊙ h + shift, each image's to its rows.
func changed(tp *grad.Tape, h, shift, scale *grad.Value, of []int) *grad.Value {
	scale = tp.Add(scale, tp.Const([]float32{1}, 1, 1))
	return tp.Add(tp.Mul(h, tp.GatherRows(scale, of)), tp.GatherRows(shift, of))
}

// condition returns SiLU(e) for each image.
func (m *DiT) condition(tp *grad.Tape, times []float32, classes []int32) *grad.Value {
	waves := make([]float32, len(times)*ditTimes)
	for i, t := range times {
		wave(waves[i*ditTimes:(i+1)*ditTimes], 1000*float64(t))
	}
	e := m.time2.Apply(tp, tp.SiLU(m.time1.Apply(tp, tp.Const(waves, len(times), ditTimes))))
	return tp.SiLU(tp.Add(e, tp.Embed(classes, m.classes)))
}

// wave writes the cosines and sines of x at frequencies from 1 down to 1/10000.
func wave(dst []float32, x float64) {
	half := len(dst) / 2
	for i := range half {
		angle := x * math.Pow(10000, -float64(i)/float64(half))
		dst[i], dst[half+i] = float32(math.Cos(angle)), float32(math.Sin(angle))
	}
}

// places returns what tells an image's patches apart [patches, d]: the waves of their
// columns beside those of their rows.
func (m *DiT) places() []float32 {
	side, d := m.image.Size/m.image.Patch, m.Options.Hidden
	out := make([]float32, side*side*d)
	for p := range side * side {
		row := out[p*d : (p+1)*d]
		wave(row[:d/2], float64(p%side))
		wave(row[d/2:], float64(p/side))
	}
	return out
}

// Tokens returns how many patches an image has.
func (m *DiT) Tokens() int { return m.image.patches() }
