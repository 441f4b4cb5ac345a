package adapt

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/train"
)

// wantErrors checks that an error says each of the parts.
func wantErrors(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want one that says %s", err, part)
		}
	}
}

// rowsOfRank returns n rows of the given singular directions around a mean, with a
// little noise.
func rowsOfRank(rng *rand.Rand, n, in int, scales []float64) []float32 {
	basis := mat.NewDense(in, len(scales), nil)
	for i := range basis.RawMatrix().Data {
		basis.RawMatrix().Data[i] = rng.NormFloat64()
	}
	orthonormal(basis)
	rows := make([]float32, n*in)
	for r := range n {
		for j := range in {
			rows[r*in+j] = float32(math.Sin(float64(j)) + 1e-5*rng.NormFloat64())
		}
		for c, s := range scales {
			x := s * rng.NormFloat64()
			for j := range in {
				rows[r*in+j] += float32(x * basis.At(j, c))
			}
		}
	}
	return rows
}

// The stream's result is the decomposition of all rows less their mean, whatever the
// batches, by the exact and by the randomized way.
func TestIncrementalDecompositionIsThatOfAllRows(t *testing.T) {
	for name, in := range map[string]int{"exact": 24, "sketched": 160} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 1))
			const k = 5
			x := rowsOfRank(rng, 700, in, []float64{9, 5, 3, 1.5, 0.8})
			s := &inputStream{k: k, in: in}
			for at := 0; at < 700; {
				n := min(1+rng.IntN(250), 700-at)
				if err := s.take(x[at*in : (at+n)*in]); err != nil {
					t.Fatal(err)
				}
				at += n
			}
			all := wide(x, 700, in)
			total := 0.0
			for j := range in {
				col := mat.Col(nil, j, all)
				mean := 0.0
				for _, v := range col {
					mean += v / 700
				}
				for i, v := range col {
					all.Set(i, j, v-mean)
					total += (v - mean) * (v - mean)
				}
			}
			_, sigma, v, err := decompose(all, k)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(s.scatter-total) > 1e-6*total || s.n != 700 {
				t.Errorf("%d rows, scatter %g; want 700, %g", s.n, s.scatter, total)
			}
			var cross, rest mat.Dense // (I − V Vᵀ) V': its norm is the sine of the largest angle
			cross.Mul(v.T(), s.v)
			rest.Mul(v, &cross)
			rest.Sub(s.v, &rest)
			if angle := mat.Norm(&rest, 2); angle > 1e-4 {
				t.Errorf("the subspaces are %g apart", angle)
			}
			for c := range k {
				if math.Abs(s.sigma[c]-sigma[c]) > 1e-4*sigma[c] {
					t.Errorf("σ[%d] = %g, want %g", c, s.sigma[c], sigma[c])
				}
				if got := math.Abs(mat.Dot(s.v.ColView(c), v.ColView(c))); got < 1-1e-6 {
					t.Errorf("direction %d has cosine %g with the exact one", c, got)
				}
			}
			if !s.converged(k, 0.99) || s.converged(k+1, 0.99) {
				t.Error("five directions have converged, and no more")
			}
		})
	}
}

func TestRanksGoToTheLargestShares(t *testing.T) {
	got := distribute([][]float64{{0.5, 0.3, 0.1}, {0.4, 0.05, 0.01}, {0.02, 0.01}, {0.3, 0.3, 0.3}}, 6)
	if want := []int{2, 1, 0, 3}; !slices.Equal(got, want) {
		t.Errorf("ranks %v, want %v", got, want)
	}
	if got := distribute([][]float64{{0.2}, {0.2, 0.2}}, 2); !slices.Equal(got, []int{1, 1}) {
		t.Errorf("of equal shares %v, want the earlier layer's first", got)
	}
}

// tokens is a source of batches of random tokens, some of them without a loss.
type tokens struct{ rng *rand.Rand }

func (s tokens) Next() (*data.Batch, error) {
	b := &data.Batch{Lengths: []int{9, 9}}
	for i := range 18 {
		b.Tokens = append(b.Tokens, s.rng.Int32N(37))
		b.Targets = append(b.Targets, s.rng.Int32N(37))
		if i%3 == 0 {
			b.Targets[i] = -1
		}
	}
	return b, nil
}
func (s tokens) State() ([]byte, error) { return nil, nil }
func (s tokens) Restore([]byte) error   { return nil }

func setupOf(m *model.Llama, seed uint64) Setup {
	return Setup{Model: m, Steps: 10, Seed: seed, Batches: func(n int) ([]train.Batch, error) {
		task := &train.Language{Model: m, Source: tokens{rand.New(rand.NewPCG(seed, 2))}}
		var batches []train.Batch
		for range n {
			b, err := task.Next()
			if err != nil {
				return nil, err
			}
			batches = append(batches, b)
		}
		return batches, nil
	}}
}

// prepared attaches EVA to the small model and lets it look.
func prepared(t *testing.T, o *EVA, targets ...string) (*model.Llama, *Adapter) {
	t.Helper()
	m := newTiny(t)
	a, err := Attach(m, named(t, "eva"), o, targets, 7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Prepare(t.Context(), setupOf(m, 4)); err != nil {
		t.Fatal(err)
	}
	return m, a
}

func TestEVAStartsFromTheInputs(t *testing.T) {
	o := NewEVA()
	o.Rank, o.Alpha = 3, 6
	m, a := prepared(t, o)
	if d := distance(logits(m), logits(newTiny(t))); d > 1e-6 {
		t.Errorf("logits move by %g", d)
	}
	sum, left := 0, map[string]*loraWeight{}
	for i, l := range a.Layers {
		w := a.Holds[i].(*loraWeight)
		if l.Weight != nn.Weight(w) {
			t.Errorf("%s holds %T", l.Name, l.Weight)
		}
		left[l.Name] = w
		r := w.a.Value.Dim(0)
		sum += r
		if r < 1 || r > 6 || math.Abs(float64(w.scale)-2) > 1e-6 {
			t.Errorf("%s has rank %d and scale %g; want 1 to 6, scale 2", l.Name, r, w.scale)
		}
		rows := wide(w.a.Value.F32(), r, w.a.Value.Dim(1))
		var gram mat.Dense
		gram.Mul(rows, rows.T())
		for p := range r {
			for q := range r {
				if want := map[bool]float64{true: 1}[p == q]; math.Abs(gram.At(p, q)-want) > 1e-5 {
					t.Errorf("%s: rows %d and %d of A have product %g", l.Name, p, q, gram.At(p, q))
				}
			}
		}
		if w.b.Value.Dim(1) != r || slices.ContainsFunc(w.b.Value.F32(), func(v float32) bool { return v != 0 }) {
			t.Errorf("%s: B is not zero [out, %d]", l.Name, r)
		}
	}
	if sum != 14*3 {
		t.Errorf("the ranks add up to %d, want %d", sum, 14*3)
	}
	if len(a.Layers) == 14 && len(o.RankPattern) == 0 {
		t.Error("no rank has moved")
	}
	q, v := left["model.layers.0.self_attn.q_proj"], left["model.layers.0.self_attn.v_proj"]
	if q == nil || v == nil || !slices.Equal(q.a.Value.F32()[:16], v.a.Value.F32()[:16]) {
		t.Error("q and v, which read the same input, start differently")
	}
	stir(a)
	want, dir := logits(m), filepath.Join(t.TempDir(), "adapter")
	if err := a.Save(dir, "base"); err != nil {
		t.Fatal(err)
	}
	fresh := newTiny(t)
	b, err := Load(dir, fresh)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Prepare(t.Context(), setupOf(fresh, 5)); err != nil { // looks at nothing again
		t.Fatal(err)
	}
	if d := distance(logits(fresh), want); d > 0 {
		t.Errorf("logits differ by %g after loading", d)
	}
}

func TestEVAWithEvenRanks(t *testing.T) {
	o := NewEVA()
	o.Rank, o.Rho, o.Whiten = 4, 1, true
	_, a := prepared(t, o, testTargets...)
	for i, l := range a.Layers {
		w := a.Holds[i].(*loraWeight)
		if r := w.a.Value.Dim(0); r != 4 {
			t.Errorf("%s has rank %d", l.Name, r)
		}
		before := math.Inf(1)
		for c := range 4 { // ‖row‖ = 1/√σ rises
			n := 0.0
			for _, v := range w.a.Value.F32()[c*w.a.Value.Dim(1) : (c+1)*w.a.Value.Dim(1)] {
				n += float64(v) * float64(v)
			}
			if 1/n > before*(1+1e-6) {
				t.Errorf("%s: singular value %d is %g after %g", l.Name, c, 1/n, before)
			}
			before = 1 / n
		}
	}
	if len(o.RankPattern)+len(o.AlphaPattern) > 0 {
		t.Errorf("patterns %v %v", o.RankPattern, o.AlphaPattern)
	}
}

// A layer whose input never varies gets no rank and leaves the adapter; files name the
// others in full.
func TestLayersWithoutAShareAreLeftAlone(t *testing.T) {
	m := newTiny(t)
	a, err := Attach(m, named(t, "eva"), NewEVA(), testTargets, 7)
	if err != nil {
		t.Fatal(err)
	}
	o := a.Options.(*EVA)
	e, err := o.listen(a, 1)
	if err != nil {
		t.Fatal(err)
	}
	e.stop()
	e.needs = []int{8, 0, 8, 8, 8, 8}
	for i, r := range e.needs {
		_, in := a.Layers[i].Weight.Dims()
		s := &inputStream{k: 8, in: in}
		if err := s.take(rowsOfRank(rand.New(rand.NewPCG(1, 1)), 30, in, make([]float64, 1+r))); err != nil {
			t.Fatal(err)
		}
		e.of[i] = s
	}
	if err := o.install(a, e); err != nil {
		t.Fatal(err)
	}
	if len(a.Layers) != 5 || len(a.Targets) != 5 || slices.Contains(a.Targets, "model.layers.0.self_attn.v_proj") {
		t.Fatalf("%d layers, targets %v", len(a.Layers), a.Targets)
	}
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := a.Save(dir, "base"); err != nil {
		t.Fatal(err)
	}
	b, err := Load(dir, newTiny(t))
	if err != nil || len(b.Layers) != 5 {
		t.Fatalf("%d layers, error %v", len(b.Layers), err)
	}
}

func TestEVAListensWhereThereIsALoss(t *testing.T) {
	for _, all := range []bool{false, true} {
		m := newTiny(t)
		o := NewEVA()
		o.Rank, o.All, o.Batches, o.Tau = 2, all, 3, 1
		a, err := Attach(m, named(t, "eva"), o, nil, 7)
		if err != nil {
			t.Fatal(err)
		}
		e, err := o.listen(a, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.stream(t.Context(), setupOf(m, 4)); err != nil {
			t.Fatal(err)
		}
		e.stop()
		if len(e.streaming) != 2*4 {
			t.Errorf("%d inputs are told apart, want those of q, o, gate and down of two blocks", len(e.streaming))
		}
		want := map[bool]int{false: 36, true: 54}[all]
		for _, s := range e.streaming {
			if s.n != want {
				t.Errorf("%d positions were looked at, want %d", s.n, want)
			}
		}
	}
}

func TestEVASaysWhatIsWrong(t *testing.T) {
	o := &EVA{LoRA: LoRA{Rank: 0}, Rho: 0.5, Tau: 2}
	wantErrors(t, o.Validate(), "rank 0", "rho 0.5", "tau 2", "batches 0")
	m := newTiny(t)
	a, err := Attach(m, named(t, "eva"), NewEVA(), []string{"q_proj"}, 7)
	if err != nil {
		t.Fatal(err)
	}
	s := setupOf(m, 4)
	few := s.Batches
	s.Batches = func(int) ([]train.Batch, error) {
		return []train.Batch{shortBatch{m}}, nil
	}
	_, err = a.Prepare(t.Context(), s)
	wantErrors(t, err, "longer batches")
	for _, l := range a.Layers {
		if _, ok := l.Weight.(*loraWeight); !ok {
			t.Errorf("%s is left as %T", l.Name, l.Weight)
		}
	}
	s.Batches = few
	if _, err := a.Prepare(t.Context(), s); err != nil {
		t.Errorf("after that, with enough: %v", err)
	}
}

// shortBatch has three positions.
type shortBatch struct{ m *model.Llama }

func (b shortBatch) Count() int { return 3 }
func (b shortBatch) Loss(tp *grad.Tape, denom float64) *grad.Value {
	return model.Loss(tp, b.m, someTokens[:3], someTargets[:3], grad.Sequences{Lengths: []int{3}}, denom)
}
