package adapt

import (
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// normal returns a tensor of normal numbers.
func normal(rng *rand.Rand, dims ...int) *tensor.Tensor {
	t := tensor.New(dims...)
	for i := range t.F32() {
		t.F32()[i] = float32(rng.NormFloat64())
	}
	return t
}

// convolution returns a layer of random kernels.
func convolution(rng *rand.Rand, out, in int, win grad.Window) *nn.Conv2d {
	return &nn.Conv2d{Linear: &nn.Linear{Name: "conv", Weight: nn.NewDense("conv.weight", normal(rng, out, win.Area()*in)), Window: win}}
}

// floraOn attaches the method and draws its core.
func floraOn(t *testing.T, o *FLoRA, l *nn.Linear, rng *rand.Rand) *floraWeight {
	t.Helper()
	hold, err := o.Attach(l, 1)
	if err != nil {
		t.Fatal(err)
	}
	w := hold.(*floraWeight)
	copy(w.g.Value.F32(), normal(rng, w.g.Value.Shape()...).F32())
	return w
}

// tuckerSum is s·Σ_pqcd G[p,q,c,d] A_1[·,p] A_2[·,q] A_3[·,c] A_4[·,d] entry by entry, in the
// order of a convolution's weight.
func tuckerSum(w *floraWeight) []float64 {
	d, r := w.d, w.r
	var out []float64
	for o := range d[0] {
		for a := range d[2] {
			for b := range d[3] {
				for i := range d[1] {
					var sum float64
					for at, g := range w.g.Value.F32() {
						p, q, c, e := at/(r[1]*r[2]*r[3]), at/(r[2]*r[3])%r[1], at/r[3]%r[2], at%r[3]
						x := float64(g) * float64(w.a[0].Value.F32()[o*r[0]+p]) * float64(w.a[1].Value.F32()[q*d[1]+i])
						if w.convolution {
							x *= float64(w.a[2].Value.F32()[a*r[2]+c]) * float64(w.a[3].Value.F32()[b*r[3]+e])
						}
						sum += x
					}
					out = append(out, float64(w.scale)*sum)
				}
			}
		}
	}
	return out
}

var floraWindows = []grad.Window{
	grad.Square(3, 1, 1),
	grad.Square(1, 1, 0),
	grad.Square(1, 2, 0),
	{Kernel: [2]int{2, 5}, Stride: [2]int{2, 1}, Padding: [2]int{1, 2}, Dilation: [2]int{2, 1}},
}

// The three small convolutions, and the weight on gathered patches, are the convolution
// with the Tucker sum added to the kernels, which is what Dense gives.
func TestFLoRAConvolvesAsTheWholeKernel(t *testing.T) {
	for _, win := range floraWindows {
		rng := rand.New(rand.NewPCG(1, 2))
		const out, in = 6, 5
		g := grad.Grid{Images: 2, Height: 7, Width: 6}
		c := convolution(rng, out, in, win)
		base, err := nn.Materialize(c.Weight)
		if err != nil {
			t.Fatal(err)
		}
		w := floraOn(t, &FLoRA{Rank: 4, KernelRank: 2, Scale: 0.04, KernelScale: 0.7}, c.Linear, rng)
		whole := base.Clone()
		for i, v := range tuckerSum(w) {
			whole.F32()[i] += float32(v)
		}
		merged, err := nn.Materialize(c.Weight)
		if err != nil {
			t.Fatal(err)
		}
		if d := distance(merged.F32(), whole.F32()); d > 1e-6 {
			t.Errorf("%v: the merged weight is off by %g", win, d)
		}
		x := normal(rng, g.Rows(), in)
		tp := grad.NewTape(nil)
		tp.NoGrad(func() {
			in := tp.Const(x.F32(), x.Dim(0), x.Dim(1))
			want := tp.Conv2d(in, grad.NewParam("whole", whole), g, win).Data
			got, grid := c.Apply(tp, in, g)
			if d := distance(got.Data, want); d > 1e-5 || grid.Rows() != got.Rows {
				t.Errorf("%v: three convolutions are off by %g", win, d)
			}
			if d := distance(w.Apply(tp, tp.Patches(in, g, win)).Data, want); d > 1e-5 {
				t.Errorf("%v: on patches it is off by %g", win, d)
			}
		})
		tp.Reset()
		if err := w.Unmerge(merged); err != nil {
			t.Fatal(err)
		}
		if d := distance(merged.F32(), base.F32()); d > 1e-6 {
			t.Errorf("%v: W is restored to %g", win, d)
		}
	}
}

// With full ranks the factors are square, and the core G = ΔW ×_1 A_1⁻¹ … ×_N A_N⁻¹ / s
// gives any change there is.
func TestFLoRAOfFullRankGivesAnyChange(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, c := range []*nn.Conv2d{
		convolution(rng, 4, 5, grad.Square(3, 1, 1)),
		{Linear: &nn.Linear{Name: "linear", Weight: nn.NewDense("w", normal(rng, 5, 5))}},
	} {
		w := floraOn(t, &FLoRA{Rank: 5, Scale: 0.04, KernelScale: 4}, c.Linear, rng)
		if w.d != w.r {
			t.Fatalf("ranks %v of dimensions %v are not full", w.r, w.d)
		}
		want := normal(rng, 5, 5)
		if w.convolution {
			want = normal(rng, 4, 3, 3, 5)
		}
		// The entries in the order of G, and each mode in turn times its inverse.
		core := make([]float64, want.Len())
		for i, v := range want.F32() {
			o, ab, q := i/(w.d[1]*w.d[2]*w.d[3]), i/w.d[1]%(w.d[2]*w.d[3]), i%w.d[1]
			core[(o*w.d[1]+q)*w.d[2]*w.d[3]+ab] = float64(v) / float64(w.scale)
		}
		for n, a := range w.a {
			var inverse mat.Dense
			f := mat.Matrix(wide(a.Value.F32(), w.d[n], w.d[n]))
			if n == 1 {
				f = f.T()
			}
			if err := inverse.Inverse(f); err != nil {
				t.Fatal(err)
			}
			core = modeProduct(core, w.d, n, &inverse)
		}
		for i, v := range core {
			w.g.Value.F32()[i] = float32(v)
		}
		got := tensor.New(w.d[0], want.Len()/w.d[0])
		if err := w.addTo(got, w.scale); err != nil {
			t.Fatal(err)
		}
		if d := distance(got.F32(), want.F32()); d > 1e-3 {
			t.Errorf("%s: the change is off by %g", c.Name, d)
		}
	}
}

// modeProduct returns x ×_n m for x of dimensions d.
func modeProduct(x []float64, d [4]int, n int, m *mat.Dense) []float64 {
	inner := 1
	for _, k := range d[n+1:] {
		inner *= k
	}
	y := make([]float64, len(x))
	for at := range x {
		row, base := at/inner%d[n], at-at/inner%d[n]*inner
		for k := range d[n] {
			y[at] += m.At(row, k) * x[base+k*inner]
		}
	}
	return y
}

// A convolution [6, 5, 3, 3] with ranks (4, 4, 2, 2) trains Σ d_n r_n + Π r_n; an image's
// channels and a 1×1 kernel bound their ranks.
func TestFLoRARanks(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct {
		out, in, kernel int
		o               FLoRA
		entries         int
	}{
		{6, 5, 3, FLoRA{Rank: 4, KernelRank: 2}, 6*4 + 5*4 + 3*2 + 3*2 + 4*4*2*2},
		{6, 1, 3, FLoRA{Rank: 4}, 6*4 + 1 + 3*3 + 3*3 + 4*1*3*3},
		{6, 5, 1, FLoRA{Rank: 4}, 6*4 + 5*4 + 1 + 1 + 4*4},
	} {
		c.o.Scale, c.o.KernelScale = 1, 1
		w := floraOn(t, &c.o, convolution(rng, c.out, c.in, grad.Square(c.kernel, 1, 0)).Linear, rng)
		n := 0
		for _, p := range w.Params() {
			n += p.PartLen()
		}
		if n != c.entries {
			t.Errorf("[%d, %d, %d, %d] with %+v: %d entries train, want %d", c.out, c.in, c.kernel, c.kernel, c.o, n, c.entries)
		}
	}
	grouped := grad.Square(3, 1, 1)
	grouped.Groups = 5
	for _, c := range []struct {
		l    *nn.Linear
		want string
	}{
		{&nn.Linear{Name: "up", Weight: nn.NewDense("w", tensor.New(9, 4))}, "rank 5 is larger than layer up [9, 4] allows (at most 4)"},
		{convolution(rng, 3, 4, grad.Square(3, 1, 1)).Linear, "at most 4"},
		{convolution(rng, 5, 5, grouped).Linear, "5 groups of channels"},
	} {
		if _, err := Attach(layers{c.l}, named(t, "flora"), &FLoRA{Rank: 5, Scale: 1, KernelScale: 1}, nil, 1); !errors.Is(err, ErrFit) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.l.Name, err, c.want)
		}
	}
	if err := (&FLoRA{KernelRank: -1, Scale: math.NaN(), Dropout: 1}).Validate(); err == nil || strings.Count(err.Error(), "adapt: flora") != 4 {
		t.Errorf("all that is wrong: %v", err)
	}
}

// layers are layers as a model.
type layers []*nn.Linear

func (m layers) Linears() []*nn.Linear { return m }
func (m layers) Params() (ps []*grad.Param) {
	for _, l := range m {
		ps = append(ps, l.Params()...)
	}
	return ps
}

// On a residual network every gradient is the finite difference, a file gives the same
// scores again, and so does merging.
func TestFLoRAOnAResNet(t *testing.T) {
	build := func() *model.ResNet {
		m, err := model.NewResNet(model.ResNetOptions{Images: model.Images{Height: 6, Width: 6, Channels: 1, Classes: 3}, Blocks: []int{1, 1}, Widths: []int{5, 6}}, 1)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := build()
	a, err := Attach(m, named(t, "flora"), &FLoRA{Rank: 3, KernelRank: 2, Scale: 0.5, KernelScale: 1}, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	stir(a)
	x := normal(rand.New(rand.NewPCG(7, 8)), 4, 36).F32()
	scores := func(m *model.ResNet) (y []float32) {
		tp := grad.NewTape(nil)
		tp.NoGrad(func() { y = slices.Clone(m.Logits(tp, tp.Const(x, 4, 36)).Data) })
		tp.Reset()
		return y
	}
	labels := []int32{0, 1, 2, 1}
	tp := grad.NewTape(nil)
	loss := func() float64 {
		v := float64(m.Loss(tp, tp.Const(x, 4, 36), labels, 1).Data[0])
		tp.Reset()
		return v
	}
	got := map[*grad.Param][]float32{}
	if err := tp.Backward(m.Loss(tp, tp.Const(x, 4, 36), labels, 1), func(p *grad.Param, g *tensor.Tensor) error {
		got[p] = slices.Clone(g.F32())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, p := range a.Params() {
		w, g := p.Value.F32(), got[p]
		if len(g) != len(w) {
			t.Fatalf("%s: gradient of %d entries, want %d", p.Name, len(g), len(w))
		}
		for i := 0; i < len(w); i += 1 + len(w)/4 {
			const h = 2e-3
			old := w[i]
			w[i] = old + h
			up := loss()
			w[i] = old - h
			down := loss()
			w[i] = old
			if want := (up - down) / (2 * h); math.Abs(want-float64(g[i])) > 1e-2*(1+math.Abs(want)) {
				t.Errorf("%s[%d]: gradient %g, finite difference %g", p.Name, i, g[i], want)
			}
		}
	}
	want := scores(m)
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := a.Save(dir, "base/model"); err != nil {
		t.Fatal(err)
	}
	fresh := build()
	for i, p := range fresh.Buffers() { // the losses have moved them
		copy(p.Value.F32(), m.Buffers()[i].Value.F32())
	}
	if _, err := Load(dir, fresh); err != nil {
		t.Fatal(err)
	}
	if got := scores(fresh); !slices.Equal(got, want) {
		t.Errorf("loaded, the scores are %v, want %v", got, want)
	}
	if err := a.Merge(); err != nil {
		t.Fatal(err)
	}
	if d := distance(scores(m), want); d > 1e-5 {
		t.Errorf("merged, the scores differ by %g", d)
	}
}
