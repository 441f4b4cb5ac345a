package adapt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"gonum.org/v1/gonum/mat"

	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
)

// LoRASB trains a small square matrix between two frozen orthonormal factors, all three
// started from the first update that full fine-tuning would make (Ponkshe et al. 2024,
// "Initialization using Update Approximation is a Silver Bullet for Extremely Efficient
// Low-Rank Fine-Tuning", arXiv:2411.19557). With G the gradient of a sample of the data:
//
//	y = W x + B R A x,   A = V_rᵀ [r, in],  B = U_r [out, r],  R = S_r [r, r]
//	ΔW₁ = −η·sign(G) ≈ U_r S_r V_rᵀ,   the first step of AdamW; −η·G that of SGD
//
// so that training starts at W and the best approximation of ΔW₁, and the gradient of R,
// Bᵀ G Aᵀ, is that whose step comes nearest to the full one. The paper's scale s, with R =
// S_r/s and the gradient over s², drops out; it is 1 here, and there is none to set. η is
// the run's peak rate, as in the authors' code, or set.
//
// The sample is a thousandth of the run's steps, at least one micro-batch. Gradients are
// taken through the sink, a layer at a time: with one micro-batch in one pass, with several
// in a pass over them for every layer. The base may be packed.
//
// Trained entries: r² a layer. Files hold A, B and R; loading one looks at no data.
// Until Prepare the factors are random and R is zero.
type LoRASB struct {
	Rank    int     `yaml:"rank" help:"Side of the square matrix that trains." default:"16"`
	Dropout float64 `yaml:"dropout" help:"Probability of dropping an input of the update."`
	First   string  `yaml:"first_update" help:"Whose first update is approximated: adamw (the sign of the gradient) or sgd." default:"adamw"`
	Eta     float64 `yaml:"eta" help:"Learning rate of the first update; 0 takes the run's." default:"0"`
	Batches int     `yaml:"batches" help:"Micro-batches that its gradient is taken of; 0 takes a thousandth of the steps, at least 1." default:"0"`

	fixed   bool    // the factors are there: a file's, or prepared
	seconds float64 // that the look at the data took
	share   float64 // of the first updates' squared norm in their approximations
}

// NewLoRASB returns the defaults: rank 16, AdamW's first step.
func NewLoRASB() *LoRASB { return &LoRASB{Rank: 16, First: "adamw"} }

// Validate implements Options.
func (o *LoRASB) Validate() error {
	errs := []error{checkDropout("lora-sb", o.Dropout)}
	if o.Rank < 1 {
		errs = append(errs, fmt.Errorf("adapt: lora-sb: rank %d, want at least 1", o.Rank))
	}
	if o.First != "adamw" && o.First != "sgd" {
		errs = append(errs, fmt.Errorf("adapt: lora-sb: first_update %q, want adamw or sgd", o.First))
	}
	if !(o.Eta >= 0) || math.IsInf(o.Eta, 0) {
		errs = append(errs, fmt.Errorf("adapt: lora-sb: eta %g, want a positive number, or 0 for the run's learning rate", o.Eta))
	}
	if o.Batches < 0 {
		errs = append(errs, fmt.Errorf("adapt: lora-sb: batches %d, want 0 or more", o.Batches))
	}
	return errors.Join(errs...)
}

// Attach implements Options: random factors around zero, which Prepare starts anew.
func (o *LoRASB) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	w, err := newCoreWeight("lora-sb", l, o.Rank)
	if err != nil {
		return nil, err
	}
	w.dropout = float32(o.Dropout)
	if !o.fixed {
		rng := rand.New(rand.NewPCG(seed, 0))
		w.set(randomOrthonormal(w.b.Value.Dim(0), o.Rank, rng), nil, randomOrthonormal(w.a.Value.Dim(1), o.Rank, rng))
	}
	l.Weight = w
	return w, nil
}

// randomOrthonormal returns k random orthonormal columns.
func randomOrthonormal(rows, k int, rng *rand.Rand) *mat.Dense {
	m := mat.NewDense(rows, k, nil)
	for i := range m.RawMatrix().Data {
		m.RawMatrix().Data[i] = rng.NormFloat64()
	}
	return orthonormal(m)
}

// set starts B = U, R = diag(s), A = Vᵀ; s nil stands for zero.
func (w *coreWeight) set(u *mat.Dense, s []float64, v *mat.Dense) {
	copy(w.b.Value.F32(), narrow(u))
	copy(w.a.Value.F32(), narrow(mat.DenseCopyOf(v.T())))
	clear(w.r.Value.F32())
	for k, x := range s {
		w.r.Value.F32()[k*len(s)+k] = float32(x)
	}
}

// Config implements Options.
func (o *LoRASB) Config() map[string]any {
	return map[string]any{"r": o.Rank, "lora_dropout": o.Dropout, "first_update": o.First, "eta": o.Eta}
}

// SetConfig implements Options.
func (o *LoRASB) SetConfig(c map[string]any) error {
	o.Rank, o.Dropout, o.Eta, o.fixed = integer(c, "r", 16), number(c, "lora_dropout", 0), number(c, "eta", 0), true
	if s, ok := c["first_update"].(string); ok {
		o.First = s
	}
	return nil
}

// Prepare implements Preparer.
func (o *LoRASB) Prepare(ctx context.Context, a *Adapter, s Setup) error {
	if o.fixed {
		return nil
	}
	began := time.Now()
	if o.Eta == 0 {
		o.Eta = s.LR
	}
	if !(o.Eta > 0) {
		return errors.New("adapt: lora-sb: the learning rate of the first update is not known; set eta")
	}
	n := o.Batches
	if n == 0 {
		n = max(1, s.Steps/1000)
	}
	batches, err := s.Batches(n)
	if err != nil {
		return err
	}
	if err := o.start(ctx, a, batches, s); err != nil {
		return fmt.Errorf("adapt: lora-sb: %w", err)
	}
	o.fixed, o.seconds = true, time.Since(began).Seconds()
	return nil
}

// start sets the factors of every layer from the gradient of the batches.
func (o *LoRASB) start(ctx context.Context, a *Adapter, batches []train.Batch, s Setup) error {
	var update, kept float64 // squared norms
	each := func(i int, g *tensor.Tensor) error {
		if at := g.FirstNonFinite(); at >= 0 {
			return fmt.Errorf("entry %d of the gradient is NaN or Inf", at)
		}
		firstUpdate(g.F32(), o.First, o.Eta)
		u, sigma, v, err := principal(g, o.Rank, seedFor(s.Seed, a.Layers[i].Name))
		if err != nil {
			return err
		}
		a.Holds[i].(*coreWeight).set(u, sigma, v)
		for _, x := range g.F32() {
			update += float64(x) * float64(x)
		}
		for _, x := range sigma {
			kept += x * x
		}
		return nil
	}
	err := weightGradients(ctx, a, batches, s.Ledger, each)
	if update > 0 {
		o.share = kept / update
	}
	return err
}

// firstUpdate turns a gradient into the update that the optimizer's first step makes.
func firstUpdate(g []float32, first string, eta float64) {
	for i, x := range g {
		switch {
		case first == "sgd":
			g[i] = float32(-eta * float64(x))
		case x > 0:
			g[i] = float32(-eta)
		case x < 0:
			g[i] = float32(eta)
		}
	}
}

// Figures implements Figured: what the look at the data took, and the share of the first
// update's squared norm that its approximation keeps.
func (o *LoRASB) Figures(*Adapter) map[string]float64 {
	return map[string]float64{"seconds before the first step": o.seconds, "share of the first update": o.share}
}
