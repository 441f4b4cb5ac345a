package adapt

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// LoRA adds a low-rank product to a frozen weight (Hu et al. 2021,
// arXiv:2106.09685):
//
//	y = W x + s·B A x,   A [r, in],  B [out, r],  s = alpha/r
//
// B starts at zero, so that training starts from the base; A starts uniform in
// ±1/√in as PEFT draws it. With RSLoRA s = alpha/√r (Kalajdzievski 2023,
// arXiv:2312.03732). Single layers can have a rank and an alpha of their own. Trained
// entries: r·(in + out) a layer.
type LoRA struct {
	Rank    int     `yaml:"rank" help:"Rank of the update." default:"8"`
	Alpha   float64 `yaml:"alpha" help:"Scale numerator; the update is scaled by alpha/rank." default:"16"`
	Dropout float64 `yaml:"dropout" help:"Probability of dropping an input of the update."`
	RSLoRA  bool    `yaml:"rslora" help:"Scale by alpha over the root of the rank."`

	RankPattern  map[string]int     `yaml:"rank_pattern" help:"Ranks of layers that differ, by the end of the layer's name or a regular expression for it."`
	AlphaPattern map[string]float64 `yaml:"alpha_pattern" help:"Scale numerators of layers that differ, in the same way."`
}

// NewLoRA returns the defaults: rank 8, alpha 16.
func NewLoRA() *LoRA { return &LoRA{Rank: 8, Alpha: 16} }

// Validate implements Options.
func (o *LoRA) Validate() error { return o.validate("lora") }

// validate checks the options under the name of a method that shares them.
func (o *LoRA) validate(method string) error {
	var errs []error
	if o.Rank < 1 {
		errs = append(errs, fmt.Errorf("adapt: %s: rank %d, want at least 1", method, o.Rank))
	}
	if !(o.Dropout >= 0 && o.Dropout < 1) {
		errs = append(errs, fmt.Errorf("adapt: %s: dropout %g, want 0 up to but not including 1", method, o.Dropout))
	}
	if math.IsNaN(o.Alpha) || math.IsInf(o.Alpha, 0) {
		errs = append(errs, fmt.Errorf("adapt: %s: alpha %g, want a finite number", method, o.Alpha))
	}
	for _, key := range slices.Sorted(maps.Keys(o.RankPattern)) {
		if r := o.RankPattern[key]; r < 1 {
			errs = append(errs, fmt.Errorf("adapt: %s: rank_pattern: rank %d for %q, want at least 1", method, r, key))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o.AlphaPattern)) {
		if v := o.AlphaPattern[key]; math.IsNaN(v) || math.IsInf(v, 0) {
			errs = append(errs, fmt.Errorf("adapt: %s: alpha_pattern: %g for %q, want a finite number", method, v, key))
		}
	}
	return errors.Join(errs...)
}

// scale returns s of a layer with that rank and alpha.
func (o *LoRA) scale(r int, alpha float64) float32 {
	if o.RSLoRA {
		return float32(alpha / math.Sqrt(float64(r)))
	}
	return float32(alpha / float64(r))
}

// of returns a layer's rank and alpha.
func (o *LoRA) of(method, layer string) (r int, alpha float64, err error) {
	if r, err = patternFor(o.RankPattern, layer, o.Rank); err != nil {
		return 0, 0, fmt.Errorf("adapt: %s: rank_pattern: %w", method, err)
	}
	if alpha, err = patternFor(o.AlphaPattern, layer, o.Alpha); err != nil {
		return 0, 0, fmt.Errorf("adapt: %s: alpha_pattern: %w", method, err)
	}
	return r, alpha, nil
}

// Attach implements Options.
func (o *LoRA) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	w, err := o.pair("lora", l, seed)
	if err != nil {
		return nil, err
	}
	l.Weight = w
	return w, nil
}

// pair returns the layer's weight with a fresh pair A, B beside it.
func (o *LoRA) pair(method string, l *nn.Linear, seed uint64) (*loraWeight, error) {
	out, in := l.Weight.Dims()
	r, alpha, err := o.of(method, l.Name)
	if err != nil {
		return nil, err
	}
	if err := checkRank(method, l, r, min(out, in)); err != nil {
		return nil, err
	}
	a, b := tensor.New(r, in), tensor.New(out, r)
	rng := rand.New(rand.NewPCG(seed, 0))
	bound := 1 / math.Sqrt(float64(in))
	for i := range a.F32() {
		a.F32()[i] = float32(bound * (2*rng.Float64() - 1))
	}
	return newLoRAWeight(l, a, b, o.scale(r, alpha), o.Dropout), nil
}

// Config implements Options.
func (o *LoRA) Config() map[string]any {
	c := map[string]any{
		"r": o.Rank, "lora_alpha": o.Alpha, "lora_dropout": o.Dropout, "use_rslora": o.RSLoRA,
		"fan_in_fan_out": false, "init_lora_weights": true, "use_dora": false,
	}
	if len(o.RankPattern) > 0 {
		c["rank_pattern"] = o.RankPattern
	}
	if len(o.AlphaPattern) > 0 {
		c["alpha_pattern"] = o.AlphaPattern
	}
	return c
}

// SetConfig implements Options.
func (o *LoRA) SetConfig(c map[string]any) error {
	if truth(c, "use_dora") {
		return errors.New("adapt: lora: use_dora is set, which is the method dora")
	}
	if c["init_lora_weights"] == "eva" {
		return errors.New(`adapt: lora: init_lora_weights is "eva", which is the method eva`)
	}
	if err := basePlain("lora", c); err != nil {
		return err
	}
	return o.setConfig("lora", c)
}

// setConfig takes the keys that all methods of peft_type LORA share.
func (o *LoRA) setConfig(method string, c map[string]any) error {
	o.Rank, o.Alpha, o.Dropout = integer(c, "r", 8), number(c, "lora_alpha", 8), number(c, "lora_dropout", 0)
	o.RSLoRA = truth(c, "use_rslora")
	var err error // fan_in_fan_out tells how the base is stored, which A and B do not mind
	if o.RankPattern, err = patternOf(c, "rank_pattern", func(v float64) int { return int(v) }); err != nil {
		return fmt.Errorf("adapt: %s: %w", method, err)
	}
	if o.AlphaPattern, err = patternOf(c, "alpha_pattern", func(v float64) float64 { return v }); err != nil {
		return fmt.Errorf("adapt: %s: %w", method, err)
	}
	return nil
}

// basePlain refuses files whose A and B belong on a base that their initialisation
// has changed.
func basePlain(method string, c map[string]any) error {
	init, _ := c["init_lora_weights"].(string)
	for _, changing := range []string{"pissa", "olora", "corda", "loftq", "lora_ga"} {
		if strings.HasPrefix(init, changing) {
			return fmt.Errorf("adapt: %s: init_lora_weights is %q, whose base is not the plain one; save the adapter with path_initial_model_for_weight_conversion", method, init)
		}
	}
	return nil
}

// loraWeight is a Weight that adds s·B A to another.
type loraWeight struct {
	base           nn.Weight
	a, b           *grad.Param
	scale, dropout float32
}

func newLoRAWeight(l *nn.Linear, a, b *tensor.Tensor, scale float32, dropout float64) *loraWeight {
	w := &loraWeight{
		base: l.Weight, scale: scale, dropout: float32(dropout),
		a: grad.NewParam(l.Name+".lora_A.weight", a), b: grad.NewParam(l.Name+".lora_B.weight", b),
	}
	w.a.Part, w.b.Part = grad.Whole, grad.Whole
	return w
}

func (w *loraWeight) Dims() (out, in int) { return w.base.Dims() }

func (w *loraWeight) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	y := w.base.Apply(tp, x)
	z := tp.Linear(tp.Dropout(x, w.dropout), w.a) // z = A x [n, r]
	return tp.AddLinear(y, z, w.b, w.scale)       // y + s·B z
}

func (w *loraWeight) Dense(dst *tensor.Tensor) error {
	if err := w.base.Dense(dst); err != nil {
		return err
	}
	return addProduct(dst, w.b.Value, w.a.Value, w.scale)
}

func (w *loraWeight) Params() []*grad.Param { return append(w.base.Params(), w.a, w.b) }

func (w *loraWeight) State() []Named {
	return []Named{{"lora_A.weight", w.a.Value}, {"lora_B.weight", w.b.Value}}
}

func (w *loraWeight) Restore(state map[string]*tensor.Tensor) error {
	if err := restore(w.a.Value, state, "lora_A.weight"); err != nil {
		return err
	}
	return restore(w.b.Value, state, "lora_B.weight")
}

func (w *loraWeight) Unmerge(t *tensor.Tensor) error {
	return addProduct(t, w.b.Value, w.a.Value, -w.scale)
}

// addProduct adds s·B A to dst [out, in], B [out, r], A [r, in].
func addProduct(dst, b, a *tensor.Tensor, s float32) error {
	tp := grad.NewTape(nil)
	tp.NoGrad(func() {
		y := tp.Const(dst.F32(), dst.Dim(0), dst.Dim(1))
		z := tp.AddMatMul(y, tp.Const(b.F32(), b.Dim(0), b.Dim(1)), tp.Const(a.F32(), a.Dim(0), a.Dim(1)), false, false, s)
		copy(dst.F32(), z.Data)
	})
	tp.Reset()
	return nil
}
