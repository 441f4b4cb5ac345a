package adapt

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/mat"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// RandLoRA adds a sum of N fixed random low-rank products, of which it trains two
// diagonals each, so that the update has full rank (Albert et al. 2025, "RandLoRA:
// Full-rank parameter-efficient fine-tuning of large models", arXiv:2502.00987). With m
// the smaller and M the larger side of W, N = ⌈m/r⌉, and s = alpha/r:
//
//	ΔW = s·Σ_n B_n diag(λ_n) A diag(γ_n) = s·B̃ Ã,   B_n [M, r],  A [r, m],
//	λ [r, N] from 0,  γ [N, m] from 1/max(N, m);   transposed where W is wider than tall
//
// The A and B of the largest layer are drawn once and shared; a layer takes their first
// rows, bases and columns. ΔW is never formed in training: Ã [N·r, m] is, a layer at a
// time, and again in the backward pass. Trained entries: N·(r + m) a layer; a smaller r
// trains more.
//
// While γ is constant ΔW has rank r, and γ has no gradient while λ is 0: with the one
// A that all n share, the update has full rank from the second step on. With distinct
// bases, A_n [r, m] for each n, it has it after the first; that is not PEFT's form.
//
// Files are PEFT's. Its flattening is kept: row k·N + n of Ã, λ[k, n] A[k] ⊙ γ[n], meets
// column k·N + n of B [M, N·r] as it lies in memory. All entries have unit variance, and
// very sparse ones are nonzero with probability 1/√m, as in its code. Bases are drawn by
// Go's PCG, not PyTorch's generator.
type RandLoRA struct {
	Rank     int     `yaml:"rank" help:"Rank r of each random product; a smaller one trains more entries." default:"32"`
	Alpha    float64 `yaml:"alpha" help:"Scale numerator; the update is scaled by alpha/rank. 0 means 20 times the rank." default:"0"`
	Dropout  float64 `yaml:"dropout" help:"Probability of dropping an input of the update."`
	Entries  string  `yaml:"entries" help:"Entries of the bases: uniform, normal, sparse (two thirds zero) or very-sparse (all but one in the root of the smaller side)." default:"uniform"`
	Distinct bool    `yaml:"distinct" help:"Draw an A for each of the N products, not one for all; PEFT cannot open such a file."`

	Projections `yaml:",inline"`
}

// NewRandLoRA returns the defaults, PEFT's: rank 32, alpha 640, uniform entries.
func NewRandLoRA() *RandLoRA {
	return &RandLoRA{Rank: 32, Entries: "uniform", Projections: Projections{Save: true}}
}

// Validate implements Options.
func (o *RandLoRA) Validate() error {
	errs := []error{checkDropout("randlora", o.Dropout), o.Projections.validate("randlora")}
	if o.Rank < 1 {
		errs = append(errs, fmt.Errorf("adapt: randlora: rank %d, want at least 1", o.Rank))
	}
	if !(o.Alpha >= 0) || math.IsInf(o.Alpha, 0) {
		errs = append(errs, fmt.Errorf("adapt: randlora: alpha %g, want a positive number, or 0 for 20 times the rank", o.Alpha))
	}
	if !slices.Contains([]string{"uniform", "normal", "sparse", "very-sparse"}, o.Entries) {
		errs = append(errs, fmt.Errorf("adapt: randlora: entries %q, %w", o.Entries, errEntries))
	}
	return errors.Join(errs...)
}

func (o *RandLoRA) alpha() float64 {
	if o.Alpha == 0 {
		return 20 * float64(o.Rank)
	}
	return o.Alpha
}

// Couple implements Coupler: the bases are made for the largest layer.
func (o *RandLoRA) Couple(_ Model, layers []*nn.Linear, seed uint64) (func(l *nn.Linear, seed uint64) (Attached, error), error) {
	for _, l := range layers {
		out, in := l.Weight.Dims()
		if err := checkRank("randlora", l, o.Rank, min(out, in)); err != nil {
			return nil, err
		}
	}
	out, in := mostSides(layers)
	m, bases := min(out, in), products(min(out, in), o.Rank)
	a := tensor.New(o.Rank, 1, m)
	if o.Distinct {
		a = tensor.New(o.Rank, bases, m)
	}
	b := tensor.New(max(out, in), bases, o.Rank)
	var err error
	o.draw("randlora", a, b, seed, func(seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		err = errors.Join(drawEntries(a.F32(), o.Entries, m, rng), drawEntries(b.F32(), o.Entries, m, rng))
	})
	first := true
	return func(l *nn.Linear, _ uint64) (Attached, error) {
		w := o.weight(l)
		w.counts, first = first, false
		l.Weight = w
		return w, nil
	}, err
}

// products returns N = ⌈m/r⌉.
func products(m, r int) int { return (m + r - 1) / r }

// weight returns the layer's weight with fresh diagonals.
func (o *RandLoRA) weight(l *nn.Linear) *randWeight {
	out, in := l.Weight.Dims()
	m := min(out, in)
	n := products(m, o.Rank)
	gamma := tensor.New(n, m)
	for i := range gamma.F32() {
		gamma.F32()[i] = 1 / float32(max(n, m))
	}
	w := &randWeight{
		base: l.Weight, a: o.a, b: o.b, scale: float32(o.alpha() / float64(o.Rank)), dropout: float32(o.Dropout),
		lambda: grad.NewParam(l.Name+".randlora_lambda", tensor.New(o.Rank, n)), gamma: grad.NewParam(l.Name+".randlora_gamma", gamma),
	}
	w.lambda.Part, w.gamma.Part = grad.Whole, grad.Whole
	return w
}

// Attach implements Options, for a layer by itself.
func (o *RandLoRA) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	attach, err := o.Couple(nil, []*nn.Linear{l}, seed)
	if err != nil {
		return nil, err
	}
	return attach(l, seed)
}

// Config implements Options.
func (o *RandLoRA) Config() map[string]any {
	c := o.config(map[string]any{
		"r": o.Rank, "randlora_alpha": o.alpha(), "randlora_dropout": o.Dropout, "sparse": o.Entries == "sparse", "very_sparse": o.Entries == "very-sparse",
		"fan_in_fan_out": false, "init_weights": true,
	})
	if o.Entries == "normal" {
		c["entries"] = o.Entries
	}
	if o.Distinct {
		c["distinct"] = true
	}
	if !o.Save {
		c["projection_prng_key"] = ownKey + strconv.Itoa(o.Key)
	}
	return c
}

// SetConfig implements Options.
func (o *RandLoRA) SetConfig(c map[string]any) error {
	o.Rank, o.Alpha, o.Dropout = integer(c, "r", 32), number(c, "randlora_alpha", 640), number(c, "randlora_dropout", 0)
	o.Entries, o.Distinct = "uniform", truth(c, "distinct")
	switch {
	case truth(c, "very_sparse"): // which wins over sparse, as in PEFT
		o.Entries = "very-sparse"
	case truth(c, "sparse"):
		o.Entries = "sparse"
	case c["entries"] == "normal":
		o.Entries = "normal"
	}
	if o.Projections.setConfig(c); !o.Save {
		if err := o.setOwnKey(c["projection_prng_key"]); err != nil {
			return err
		}
	}
	return plainConfig("randlora", c)
}

// ownKey stands before the key in a file without bases, which only Tare can draw again:
// PEFT refuses it, where from a number it would draw others in silence.
const ownKey = "tare "

func (o *RandLoRA) setOwnKey(v any) (err error) {
	key, _ := v.(string)
	number, own := strings.CutPrefix(key, ownKey)
	if o.Key, err = strconv.Atoi(number); err != nil || !own {
		return fmt.Errorf("adapt: randlora: save_projection is false and projection_prng_key is %v: the file has no bases, and those of another program cannot be drawn again here; save the adapter with save_projection", v)
	}
	return nil
}

var errEntries = errors.New("want uniform, normal, sparse or very-sparse")

// drawEntries fills dst with independent entries of mean 0 and variance 1: uniform,
// normal, or ±√s with probability 1/(2s) each and 0 otherwise, where s is 3 when sparse
// and √d when very sparse.
func drawEntries(dst []float32, kind string, d int, rng *rand.Rand) error {
	s := 3.0
	switch kind {
	case "uniform":
		for i := range dst {
			dst[i] = float32(math.Sqrt(3) * (2*rng.Float64() - 1))
		}
		return nil
	case "normal":
		for i := range dst {
			dst[i] = float32(rng.NormFloat64())
		}
		return nil
	case "sparse":
	case "very-sparse":
		s = math.Sqrt(float64(d))
	default:
		return errEntries
	}
	for i := range dst {
		switch u := rng.Float64() * 2 * s; {
		case u < 1:
			dst[i] = float32(-math.Sqrt(s))
		case u < 2:
			dst[i] = float32(math.Sqrt(s))
		default:
			dst[i] = 0
		}
	}
	return nil
}

// Figures implements Figured: the mean rank of the layers' updates, and the most that
// it could be.
func (o *RandLoRA) Figures(a *Adapter) map[string]float64 {
	var rank, most int
	for _, h := range a.Holds {
		w := h.(*randWeight)
		out, in := w.Dims()
		delta := tensor.New(out, in)
		w.addDelta(delta, 1)
		rank, most = rank+numericRank(delta), most+min(out, in)
	}
	n := float64(len(a.Holds))
	return map[string]float64{"rank of the update": float64(rank) / n, "full rank": float64(most) / n}
}

// numericRank returns how many singular values of w exceed what f32 leaves in doubt:
// the largest times the larger side times 2⁻²³. It goes by their squares, the
// eigenvalues of the smaller Gram matrix in float64.
func numericRank(w *tensor.Tensor) (rank int) {
	out, in := w.Dim(0), w.Dim(1)
	m := mat.Matrix(wide(w.F32(), out, in))
	if out > in {
		m = m.T()
	}
	var gram mat.SymDense
	gram.SymOuterK(1, m)
	var eigen mat.EigenSym
	if !eigen.Factorize(&gram, false) {
		return 0
	}
	squares := eigen.Values(nil) // rising
	least := squares[len(squares)-1] * math.Pow(float64(max(out, in))*0x1p-23, 2)
	for _, x := range squares {
		if x > least {
			rank++
		}
	}
	return rank
}

// randWeight is a Weight that adds s·B̃ Ã, or its transpose, to another.
type randWeight struct {
	base           nn.Weight
	a, b           *grad.Param // shared: A [r, 1 or N', m'], B [M', N', r]
	lambda, gamma  *grad.Param // λ [r, N], γ [N, m]
	scale, dropout float32
	counts         bool // a and b are counted here
}

func (w *randWeight) Dims() (out, in int) { return w.base.Dims() }

func (w *randWeight) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	y := w.base.Apply(tp, x)
	return tp.Scope(func() *grad.Value {
		x := tp.Dropout(x, w.dropout)
		a := w.scaled(tp, 1)
		out, in := w.Dims()
		b := w.b.Value.Reshape(w.b.Value.Dim(0), w.b.Value.Dim(1)*w.b.Value.Dim(2))
		if out >= in { // y + (x Ãᵀ) B̃ᵀ
			z := tp.MatMul(x, a, false, true)
			return tp.AddTo(tp.LinearFixed(z, b.Operand(true), out, a.Rows), y)
		}
		z := tp.LinearFixed(x, b.Operand(false), a.Rows, in) // y + (x B̃) Ã
		return tp.AddMatMul(y, z, a, false, false, 1)
	})
}

// scaled returns sign·s·Ã [N·r, m].
func (w *randWeight) scaled(tp *grad.Tape, sign float32) *grad.Value {
	a, m := w.a.Value.F32(), w.a.Value.Dim(2)
	each := w.a.Value.Dim(1)
	return tp.ScaledBasis(tp.Use(w.lambda), tp.Use(w.gamma), sign*w.scale, func(k, n int) []float32 {
		at := (k*each + n%each) * m
		return a[at : at+m]
	})
}

func (w *randWeight) Dense(dst *tensor.Tensor) error {
	if err := w.base.Dense(dst); err != nil {
		return err
	}
	w.addDelta(dst, 1)
	return nil
}

// addDelta adds sign·ΔW to dst [out, in].
func (w *randWeight) addDelta(dst *tensor.Tensor, sign float32) {
	out, in := dst.Dim(0), dst.Dim(1)
	tp := grad.NewTape(nil)
	tp.NoGrad(func() {
		a := w.scaled(tp, sign)
		rows, stride := max(out, in), w.b.Value.Dim(1)*w.b.Value.Dim(2)
		b := make([]float32, 0, rows*a.Rows) // B̃ [M, N·r]
		for p := range rows {
			b = append(b, w.b.Value.F32()[p*stride:p*stride+a.Rows]...)
		}
		y, bv := tp.Const(dst.F32(), out, in), tp.Const(b, rows, a.Rows)
		if out >= in {
			y = tp.AddMatMul(y, bv, a, false, false, 1)
		} else {
			y = tp.AddMatMul(y, a, bv, true, true, 1)
		}
		copy(dst.F32(), y.Data)
	})
	tp.Reset()
}

func (w *randWeight) Unmerge(t *tensor.Tensor) error {
	w.addDelta(t, -1)
	return nil
}

func (w *randWeight) State() []Named {
	return []Named{{"randlora_lambda", w.lambda.Value}, {"randlora_gamma", w.gamma.Value}}
}

func (w *randWeight) Restore(state map[string]*tensor.Tensor) error {
	return errors.Join(restore(w.lambda.Value, state, "randlora_lambda"), restore(w.gamma.Value, state, "randlora_gamma"))
}

// Params returns the bases in one layer of all that share them.
func (w *randWeight) Params() []*grad.Param {
	ps := w.base.Params()
	if w.counts {
		ps = append(ps, w.a, w.b)
	}
	return append(ps, w.lambda, w.gamma)
}
