package adapt

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// AdaLoRA holds the update in the form of a singular value decomposition and prunes its
// least important triplets during training, over all matrices together (Zhang et al.
// 2023, "Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning",
// arXiv:2303.10512):
//
//	y = W x + s·P Λ Q x,   P [out, r0],  Λ = diag(λ) [r0],  Q [r0, in],  s = alpha/r0
//
// P and Q start Gaussian with deviation 0.02, λ at zero. The loss gains
// γ·(‖PᵀP − I‖² + ‖QQᵀ − I‖²), averaged over the matrices P and Q as the authors' code
// does. How triplets are judged and pruned is in adalora_budget.go.
//
// Trained entries: r0·(in + out + 1) a layer, all of them to the end: a pruned triplet
// has λ = 0 and keeps P and Q. Files are PEFT's: lora_A holds Q, lora_B P, lora_E λ
// [r, 1], each with the triplets that are left, which rank_pattern marks; PEFT's scale
// is alpha/(ranknum + 1e-5), where ranknum stays init_r and is not in the file.
type AdaLoRA struct {
	Rank    int     `yaml:"rank" help:"Rank that is left in the end, on average over the layers." default:"8"`
	Init    int     `yaml:"init_rank" help:"Rank of every layer at the start; 0 means one and a half times the final one." default:"0"`
	Alpha   float64 `yaml:"alpha" help:"Scale numerator; the update is scaled by alpha over the rank at the start." default:"16"`
	Dropout float64 `yaml:"dropout" help:"Probability of dropping an input of the update."`
	Gamma   float64 `yaml:"gamma" help:"Weight of the penalty on P and Q for not being orthonormal." default:"0.5"`
	Begin   float64 `yaml:"begin" help:"Fraction of the steps before pruning begins." default:"0.1"`
	Finish  float64 `yaml:"finish" help:"Fraction of the steps at the end, when what is left stays." default:"0.5"`
	Every   int     `yaml:"every" help:"Steps between two prunings; in between, pruned triplets can grow again." default:"10"`
	Beta1   float64 `yaml:"beta1" help:"Decay of the mean of an entry's sensitivity." default:"0.85"`
	Beta2   float64 `yaml:"beta2" help:"Decay of the mean of its fluctuation." default:"0.85"`

	plan    plan              // of the run or of the file; zero before either
	layers  map[string]*ada   // what is attached, by the layer's name
	pattern map[string][]bool // of the file that is being read
}

// NewAdaLoRA returns the defaults: final rank 8, γ = 0.5 and β = 0.85 as in PEFT, and
// the phases about the shares of the steps that they had in the paper's GLUE runs.
func NewAdaLoRA() *AdaLoRA {
	return &AdaLoRA{Rank: 8, Alpha: 16, Gamma: 0.5, Begin: 0.1, Finish: 0.5, Every: 10, Beta1: 0.85, Beta2: 0.85}
}

// Validate implements Options.
func (o *AdaLoRA) Validate() error {
	var errs []error
	say := func(format string, args ...any) { errs = append(errs, fmt.Errorf("adapt: adalora: "+format, args...)) }
	if o.Rank < 1 {
		say("rank %d, want at least 1", o.Rank)
	}
	if o.Init != 0 && o.Init < o.Rank {
		say("init_rank %d is below the final rank %d; raise it, or 0 for one and a half times the final one", o.Init, o.Rank)
	}
	if !(o.Alpha > 0) || math.IsInf(o.Alpha, 0) {
		say("alpha %g, want a positive number", o.Alpha)
	}
	if !(o.Dropout >= 0 && o.Dropout < 1) {
		say("dropout %g, want 0 up to but not including 1", o.Dropout)
	}
	if !(o.Gamma >= 0) || math.IsInf(o.Gamma, 0) {
		say("gamma %g, want 0 or more", o.Gamma)
	}
	if !(o.Begin >= 0 && o.Finish >= 0 && o.Begin+o.Finish < 1) {
		say("begin %g and finish %g, want fractions whose sum is below 1", o.Begin, o.Finish)
	}
	if o.Every < 1 {
		say("every %d, want at least 1", o.Every)
	}
	if !(o.Beta1 > 0 && o.Beta1 < 1 && o.Beta2 > 0 && o.Beta2 < 1) {
		say("beta1 %g and beta2 %g, want between 0 and 1", o.Beta1, o.Beta2)
	}
	return errors.Join(errs...)
}

func (o *AdaLoRA) initRank() int {
	if o.Init == 0 {
		return (3*o.Rank + 1) / 2
	}
	return o.Init
}

// Attach implements Options.
func (o *AdaLoRA) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	out, in := l.Weight.Dims()
	r, pattern := o.initRank(), o.pattern[l.Name]
	if err := checkRank("adalora", l, r, min(out, in)); err != nil {
		return nil, err
	}
	scale := o.Alpha / (float64(r) + 1e-5)
	if pattern != nil {
		r = count(pattern)
	}
	q, e, p := tensor.New(r, in), tensor.New(r), tensor.New(out, r)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, t := range []*tensor.Tensor{p, q} {
		for i := range t.F32() {
			t.F32()[i] = float32(0.02 * rng.NormFloat64())
		}
	}
	w := &ada{
		base: l.Weight, scale: float32(scale), dropout: float32(o.Dropout), pattern: pattern,
		p: grad.NewParam(l.Name+".lora_B", p), e: grad.NewParam(l.Name+".lora_E", e), q: grad.NewParam(l.Name+".lora_A", q),
	}
	if r > 0 {
		w.p.Part, w.e.Part, w.q.Part = grad.Whole, grad.Whole, grad.Whole
	}
	if o.layers == nil {
		o.layers = map[string]*ada{}
	}
	o.layers[l.Name], l.Weight = w, w
	return w, nil
}

// Config implements Options.
func (o *AdaLoRA) Config() map[string]any {
	at := o.plan
	if at.steps == 0 {
		at.steps = 1
	}
	c := map[string]any{
		"init_r": o.initRank(), "target_r": o.Rank, "lora_alpha": o.Alpha, "lora_dropout": o.Dropout, "orth_reg_weight": o.Gamma,
		"tinit": at.begin, "tfinal": at.finish, "total_step": at.steps, "deltaT": o.Every, "beta1": o.Beta1, "beta2": o.Beta2,
		"fan_in_fan_out": false, "init_lora_weights": true,
	}
	pattern, pruned := map[string][]bool{}, false
	for name, w := range o.layers {
		pattern[name+".lora_E"] = w.filePattern()
		pruned = pruned || w.kept != nil || w.pattern != nil
	}
	if pruned {
		c["rank_pattern"] = pattern
	}
	return c
}

// SetConfig implements Options.
func (o *AdaLoRA) SetConfig(c map[string]any) error {
	std := NewAdaLoRA()
	o.Rank, o.Init, o.Every = integer(c, "target_r", 8), integer(c, "init_r", 12), integer(c, "deltaT", 1)
	o.Alpha, o.Dropout, o.Gamma = number(c, "lora_alpha", 8), number(c, "lora_dropout", 0), number(c, "orth_reg_weight", std.Gamma)
	o.Beta1, o.Beta2 = number(c, "beta1", std.Beta1), number(c, "beta2", std.Beta2)
	if o.Alpha <= 0 { // PEFT's scale is 1 then
		o.Alpha = float64(o.Init)
	}
	if truth(c, "use_dora") {
		return errors.New("adapt: adalora: use_dora is set, which is not supported")
	}
	if err := basePlain("adalora", c); err != nil {
		return err
	}
	if n := integer(c, "total_step", 0); n > 0 {
		o.plan = plan{integer(c, "tinit", 0), integer(c, "tfinal", 0), n}
		o.Begin, o.Finish = float64(o.plan.begin)/float64(n), float64(o.plan.finish)/float64(n)
	}
	return o.setPattern(c["rank_pattern"])
}

// setPattern reads which triplets of each layer a file holds.
func (o *AdaLoRA) setPattern(v any) error {
	if !isSet(v) {
		return nil
	}
	layers, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("adapt: adalora: rank_pattern is %v, want lists by layer", v)
	}
	o.pattern = map[string][]bool{}
	for key, list := range layers {
		marks, ok := list.([]any)
		if !ok || len(marks) != o.initRank() {
			return fmt.Errorf("adapt: adalora: rank_pattern of %q is not a list of %d marks, one a triplet", key, o.initRank())
		}
		held := make([]bool, len(marks))
		for k, mark := range marks {
			if held[k], ok = mark.(bool); !ok {
				return fmt.Errorf("adapt: adalora: rank_pattern of %q holds %v, want true or false", key, mark)
			}
		}
		name, _, _ := strings.Cut(key, ".lora_E")
		o.pattern[strings.TrimPrefix(name, peftPrefix)] = held
	}
	return nil
}

// ada is a Weight that adds s·P Λ Q to another.
type ada struct {
	base           nn.Weight
	p, e, q        *grad.Param // P [out, r], λ [r], Q [r, in]
	scale, dropout float32
	kept           []bool // what the budget leaves of the triplets; nil before the first pruning
	pattern        []bool // of the file it came from: which of the r0 triplets are here; nil for all
}

func (w *ada) rank() int { return w.e.Value.Len() }

func (w *ada) Dims() (out, in int) { return w.base.Dims() }

func (w *ada) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	y := w.base.Apply(tp, x)
	if w.rank() == 0 {
		return y
	}
	z := tp.Linear(tp.Dropout(x, w.dropout), w.q)                // Q x [n, r]
	return tp.AddLinear(y, tp.Mul(z, tp.Use(w.e)), w.p, w.scale) // y + s·P Λ Q x
}

func (w *ada) Dense(dst *tensor.Tensor) error {
	if err := w.base.Dense(dst); err != nil {
		return err
	}
	return w.addDelta(dst, w.scale)
}

func (w *ada) Unmerge(t *tensor.Tensor) error { return w.addDelta(t, -w.scale) }

func (w *ada) addDelta(dst *tensor.Tensor, scale float32) error {
	if w.rank() == 0 {
		return nil
	}
	q, in := w.q.Value.Clone(), dst.Dim(1) // Λ Q
	for k, v := range w.e.Value.F32() {
		for i := range in {
			q.F32()[k*in+i] *= v
		}
	}
	return addProduct(dst, w.p.Value, q, scale)
}

func (w *ada) Params() []*grad.Param { return append(w.base.Params(), w.p, w.e, w.q) }

// held says which triplets are in use: those that the budget leaves, and those that
// have grown again since.
func (w *ada) held() []bool {
	held := make([]bool, w.rank())
	for k, v := range w.e.Value.F32() {
		held[k] = w.kept == nil || w.kept[k] || v != 0
	}
	return held
}

// filePattern marks the triplets in use among the r0 of the start.
func (w *ada) filePattern() []bool {
	held := w.held()
	if w.pattern == nil {
		return held
	}
	marks, k := slices.Clone(w.pattern), 0
	for i, here := range marks {
		if here {
			marks[i] = held[k]
			k++
		}
	}
	return marks
}

// State returns copies without the pruned triplets.
func (w *ada) State() []Named {
	held, r, in, out := w.held(), w.rank(), w.q.Value.Dim(1), w.p.Value.Dim(0)
	n := count(held)
	q, e, p := make([]float32, 0, n*in), make([]float32, 0, n), make([]float32, 0, n*out)
	for k := range r {
		if held[k] {
			q = append(q, w.q.Value.F32()[k*in:(k+1)*in]...)
			e = append(e, w.e.Value.F32()[k])
		}
	}
	for i, v := range w.p.Value.F32() {
		if held[i%r] {
			p = append(p, v)
		}
	}
	return []Named{{"lora_A", tensor.FromF32(q, n, in)}, {"lora_B", tensor.FromF32(p, out, n)}, {"lora_E", tensor.FromF32(e, n, 1)}}
}

func (w *ada) Restore(state map[string]*tensor.Tensor) error {
	e := tensor.FromF32(w.e.Value.F32(), w.rank(), 1)
	return errors.Join(restore(w.q.Value, state, "lora_A"), restore(w.p.Value, state, "lora_B"), restore(e, state, "lora_E"))
}

func count(marks []bool) (n int) {
	for _, m := range marks {
		if m {
			n++
		}
	}
	return n
}
