package bayes

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Values of Willems, Shtarkov and Tjalkens' table of P_e(a, b), and of Laplace's rule.
func TestKTClosedForms(t *testing.T) {
	for _, c := range []struct{ a, b, want float64 }{
		{0, 0, 1}, {0, 1, 1. / 2}, {0, 2, 3. / 8}, {0, 3, 5. / 16}, {0, 4, 35. / 128}, {0, 5, 63. / 256},
		{1, 1, 1. / 8}, {1, 2, 1. / 16}, {1, 3, 5. / 128}, {1, 4, 7. / 256}, {2, 2, 3. / 128}, {2, 3, 3. / 256}, {3, 3, 5. / 1024},
	} {
		l, err := KT(2).LogProbability([]float64{c.a, c.b})
		if err != nil {
			t.Fatal(err)
		}
		near(t, "P_e", math.Exp(l), c.want, 1e-12)
	}
	p, err := Dirichlet{1, 1, 1}.Predict([]float64{3, 0, 1})
	if err != nil || math.Abs(p[0]-4./7) > 1e-12 || math.Abs(p[1]-1./7) > 1e-12 {
		t.Errorf("%v, %v: want 4/7 and 1/7", p, err)
	}
}

// Predictions multiply to the closed form, and no counts break the bound.
func TestKTRegretIsWithinItsBound(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := rapid.IntRange(2, 6).Draw(r, "letters")
		counts := make([]float64, m)
		order := rapid.SliceOfN(rapid.IntRange(0, m-1), 1, 60).Draw(r, "letters")
		loss := 0.0
		for _, v := range order {
			p, err := KT(m).Predict(counts)
			if err != nil {
				r.Fatal(err)
			}
			loss -= math.Log(p[v])
			counts[v]++
		}
		closed, _ := KT(m).LogProbability(counts)
		near(r, "loss", loss, -closed, 1e-10)
		scale := rapid.SampledFrom([]float64{1, 7, 1000}).Draw(r, "scale")
		n := 0.0
		for i := range counts {
			counts[i] *= scale
			n += counts[i]
		}
		closed, _ = KT(m).LogProbability(counts)
		if regret := -closed - Entropy(counts); regret > KTBound(m, int(n))+1e-9 {
			r.Errorf("regret %g on %v, bound %g", regret, counts, KTBound(m, int(n)))
		}
	})
}

// shape is a tree written out: its leaves as contexts, the last symbol first.
type shape struct {
	leaves       [][]int
	inner, above int // inner nodes, and leaves above the largest depth
}

// shapes lists all trees below a context.
func shapes(context []int, children, depth int) []shape {
	if len(context) == depth {
		return []shape{{leaves: [][]int{context}}}
	}
	out := []shape{{leaves: [][]int{context}, above: 1}}
	combined := []shape{{inner: 1}}
	for c := range children {
		below := shapes(append(slices.Clone(context), c), children, depth)
		var next []shape
		for _, a := range combined {
			for _, b := range below {
				next = append(next, shape{slices.Concat(a.leaves, b.leaves), a.inner + b.inner, a.above + b.above})
			}
		}
		combined = next
	}
	return append(out, combined...)
}

// follow counts the letters at each leaf; letter gives −1 where a tree is not asked.
func (s shape) follow(symbols []int, start, letters int, letter func(t int) int) [][]float64 {
	out := make([][]float64, len(s.leaves))
	for i := range out {
		out[i] = make([]float64, letters)
	}
	for t := range symbols {
		at := letter(t)
		if at < 0 {
			continue
		}
		for i, leaf := range s.leaves {
			fits := true
			for d, c := range leaf {
				v := start
				if t-1-d >= 0 {
					v = symbols[t-1-d]
				}
				fits = fits && v == c
			}
			if fits {
				out[i][at]++
			}
		}
	}
	return out
}

// double is Σ_S w(S) Π_leaves P_e, tree by tree, in logarithms; best is the largest term.
func double(o *ContextTree, trees []shape, symbols []int, letters int, letter func(t int) int) (sum, best float64) {
	d := make(Dirichlet, letters)
	for i := range d {
		d[i] = o.Alpha
	}
	var terms, weights []float64
	for _, s := range trees {
		w := float64(s.inner)*math.Log(1-o.Stop) + float64(s.above)*math.Log(o.Stop)
		weights = append(weights, w)
		for _, counts := range s.follow(symbols, o.Symbols, letters, letter) {
			p, _ := d.LogProbability(counts)
			w += p
		}
		terms = append(terms, w)
	}
	if w := logSumExp(weights); math.Abs(w) > 1e-9 {
		panic("the prior of trees does not sum to 1")
	}
	return logSumExp(terms), slices.Max(terms)
}

// drawSequence draws symbols for a tree's options.
func drawSequence(r *rapid.T) (*ContextTree, []shape, []int) {
	m := rapid.IntRange(2, 3).Draw(r, "symbols")
	o := NewContextTree(m)
	o.Depth = rapid.IntRange(0, 5-m).Draw(r, "depth")
	o.Alpha = rapid.SampledFrom([]float64{0.5, 1, 0.1}).Draw(r, "alpha")
	o.Stop = rapid.SampledFrom([]float64{0.5, 0.2, 0.9}).Draw(r, "stop")
	return o, shapes(nil, m+1, o.Depth), rapid.SliceOfN(rapid.IntRange(0, m-1), 1, 40).Draw(r, "sequence")
}

// Weighting gives what the sum over all trees gives, to the last symbol's loss; so does the
// likeliest tree among them.
func TestContextTreeIsTheSumOverTrees(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		o, trees, symbols := drawSequence(r)
		f, err := o.Fit(context.Background(), [][]int{symbols})
		if err != nil {
			r.Fatal(err)
		}
		sum, best := double(o, trees, symbols, o.Symbols, func(t int) int { return symbols[t] })
		near(r, "log probability", -f.Loss, sum, 1e-9)
		leaves, posterior := f.Likeliest()
		near(r, "posterior of the likeliest tree", posterior, best-sum, 1e-9)
		n := 0.0
		for _, leaf := range leaves {
			n += sumOf(leaf.Counts)
		}
		near(r, "symbols at its leaves", n, float64(len(symbols)), 0)
		// what is foretold of the next symbol is the ratio of probabilities
		next, err := f.Predict(symbols)
		if err != nil {
			r.Fatal(err)
		}
		near(r, "sum of predictions", sumOf(next), 1, 1e-12)
		longer := append(slices.Clone(symbols), o.Symbols-1)
		after, _ := double(o, trees, longer, o.Symbols, func(t int) int { return longer[t] })
		near(r, "prediction", next[o.Symbols-1], math.Exp(after-sum), 1e-9)
	})
}

// With bits the probability is a product over the prefixes, of sums over all trees.
func TestBitsAreTreesForEachPrefix(t *testing.T) {
	o := &ContextTree{Symbols: 3, Depth: 2, Code: "bits", Alpha: 0.5, Stop: 0.5}
	trees := shapes(nil, 4, 2)
	rapid.Check(t, func(r *rapid.T) {
		symbols := rapid.SliceOfN(rapid.IntRange(0, 2), 1, 40).Draw(r, "sequence")
		f, err := o.Fit(context.Background(), [][]int{symbols})
		if err != nil {
			r.Fatal(err)
		}
		high, _ := double(o, trees, symbols, 2, func(t int) int { return symbols[t] >> 1 })
		low, _ := double(o, trees, symbols, 2, func(t int) int { // the prefix 1 has one symbol, 2
			if symbols[t]>>1 == 1 {
				return -1
			}
			return symbols[t]
		})
		near(r, "log probability", -f.Loss, high+low, 1e-9)
		p, err := f.Predict(symbols)
		if err != nil || len(p) != 3 {
			r.Fatalf("%v, %v", p, err)
		}
		near(r, "sum of predictions", sumOf(p), 1, 1e-12)
	})
}

// On every sequence the loss is within the bound of every tree with its best distributions.
func TestContextTreeRegretIsWithinItsBound(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		o, trees, symbols := drawSequence(r)
		o.Alpha = 0.5
		f, err := o.Fit(context.Background(), [][]int{symbols})
		if err != nil {
			r.Fatal(err)
		}
		for _, s := range trees {
			best := 0.0
			var visits []int
			for _, counts := range s.follow(symbols, o.Symbols, o.Symbols, func(t int) int { return symbols[t] }) {
				best += Entropy(counts)
				visits = append(visits, int(sumOf(counts)))
			}
			if bound := o.TreeBound(s.inner, s.above, visits); f.Loss-best > bound+1e-9 {
				r.Fatalf("regret %g against %v, bound %g", f.Loss-best, s.leaves, bound)
			}
		}
	})
}

// Sequences start anew, the order of the past matters, and long ones stay finite.
func TestContextTreeLearnsAPeriod(t *testing.T) {
	o := NewContextTree(3)
	var long []int
	for t := range 3000 {
		long = append(long, []int{0, 1, 0, 2}[t%4])
	}
	f, err := o.Fit(context.Background(), [][]int{long, long[:50]})
	if err != nil {
		t.Fatal(err)
	}
	if f.Bits() > 0.03 {
		t.Errorf("%g bits a symbol of a period of four", f.Bits())
	}
	again, err := f.Foretell(long[:9])
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range again {
		// sequences began twice, so that there ½ + 2 of ³⁄₂ + 2 is known; all else is certain
		if least := []float64{0.7, 0.7, 0.95}[min(i, 2)]; p[long[i]] < least {
			t.Errorf("symbol %d has probability %g", i, p[long[i]])
		}
	}
	leaves, _ := f.Likeliest()
	if len(leaves) > 10 {
		t.Errorf("%d contexts where what came one or two before decides: %v", len(leaves), leaves)
	}
}

func TestContextTreeRefuses(t *testing.T) {
	ctx := context.Background()
	if _, err := (&ContextTree{Symbols: 1, Depth: -1, Code: "words", Alpha: 0, Stop: 1}).Fit(ctx, nil); !errors.Is(err, ErrOptions) {
		t.Errorf("%v, want ErrOptions", err)
	}
	if _, err := NewContextTree(2).Fit(ctx, [][]int{{}}); !errors.Is(err, ErrData) {
		t.Errorf("%v without symbols, want ErrData", err)
	}
	_, err := NewContextTree(2).Fit(ctx, [][]int{{0, 1}, {1, 2}})
	var symbol *SymbolError
	if !errors.As(err, &symbol) || symbol.Sequence != 1 || symbol.Place != 1 || !errors.Is(err, ErrData) {
		t.Errorf("%v, want symbol 2 of sequence 2 named", err)
	}
	f, err := NewContextTree(2).Fit(ctx, [][]int{{0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Predict([]int{-1}); !errors.Is(err, ErrData) {
		t.Errorf("%v of a past with −1", err)
	}
	if _, err := KT(2).LogProbability([]float64{1}); !errors.Is(err, ErrData) {
		t.Errorf("%v of one count for two letters", err)
	}
	if _, err := (Dirichlet{1, 0}).Predict([]float64{1, 1}); !errors.Is(err, ErrOptions) {
		t.Errorf("%v of α = 0", err)
	}
}

// BenchmarkContextTree reads 20,000 symbols of four letters, to depth 5.
func BenchmarkContextTree(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	symbols := make([]int, 20000)
	for i := range symbols {
		symbols[i] = rng.IntN(4)
	}
	for b.Loop() {
		if _, err := NewContextTree(4).Fit(context.Background(), [][]int{symbols}); err != nil {
			b.Fatal(err)
		}
	}
}
