package adapt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sort"
	"time"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// EVA starts LoRA from the inputs that the layers really get (Paischer et al. 2024,
// "One Initialization to Rule them All: Fine-tuning via Explained Variance Adaptation",
// arXiv:2410.07170). Before the first step it streams batches of the training data
// through the base and decomposes each layer's inputs X [n, in], incrementally, until
// every direction that is needed stays where it was (cosine above τ):
//
//	y = W x + s·B A x,   A = V_rᵀ [r, in],   B = 0 [out, r],   X − mean ≈ U diag(σ) Vᵀ
//
// The ranks are moved to where they explain most: with σ_c²/Σσ² the share of the
// variance that component c of a layer's inputs explains, the layers·r largest shares
// of all layers are taken, at most ρ·r from one. A layer that gets none is left alone.
// Alpha follows the rank, so that s is the same everywhere. Layers that read the same
// input (q, k and v; gate and up) share one decomposition. Trained entries: r_l·(in +
// out) a layer, Σ r_l = layers·r.
//
// Files are PEFT's LoRA with init_lora_weights "eva", rank_pattern and alpha_pattern.
// Loading one gives its ranks and looks at no data again. As in the authors' code the
// mean is taken away, and whitening divides by the root of σ.
type EVA struct {
	LoRA    `yaml:",inline"`
	Rho     float64 `yaml:"rho" help:"Largest rank of a layer over the average one; 1 leaves the ranks even." default:"2"`
	Tau     float64 `yaml:"tau" help:"Cosine between a direction and itself one batch earlier at which it has converged." default:"0.99"`
	Batches int     `yaml:"batches" help:"Most micro-batches to look at; what has not converged then is taken as it is." default:"32"`
	All     bool    `yaml:"all_positions" help:"Look at every position, not only at those with a loss."`
	Whiten  bool    `yaml:"whiten" help:"Divide each row of A by the root of its singular value."`
	Alike   bool    `yaml:"adjust_scale" help:"Scale every layer by the same factor, whatever rank it gets." default:"true"`

	fixed   bool    // the ranks are a file's
	seconds float64 // that the look at the data took
	looked  int     // batches
}

// NewEVA returns the defaults, PEFT's: rank 8, ρ = 2, τ = 0.99.
func NewEVA() *EVA {
	return &EVA{LoRA: *NewLoRA(), Rho: 2, Tau: 0.99, Batches: 32, Alike: true}
}

// Validate implements Options.
func (o *EVA) Validate() error {
	errs := []error{o.LoRA.validate("eva")}
	if !(o.Rho >= 1) || math.IsInf(o.Rho, 0) {
		errs = append(errs, fmt.Errorf("adapt: eva: rho %g, want at least 1", o.Rho))
	}
	if !(o.Tau >= 0 && o.Tau <= 1) {
		errs = append(errs, fmt.Errorf("adapt: eva: tau %g, want 0 to 1", o.Tau))
	}
	if o.Batches < 1 {
		errs = append(errs, fmt.Errorf("adapt: eva: batches %d, want at least 1", o.Batches))
	}
	return errors.Join(errs...)
}

// Attach implements Options: a plain LoRA, which Prepare starts anew.
func (o *EVA) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	w, err := o.pair("eva", l, seed)
	if err != nil {
		return nil, err
	}
	l.Weight = w
	return w, nil
}

// Config implements Options.
func (o *EVA) Config() map[string]any {
	c := o.LoRA.Config()
	c["init_lora_weights"] = "eva"
	c["eva_config"] = map[string]any{
		"rho": o.Rho, "tau": o.Tau, "use_label_mask": !o.All, "label_mask_value": -100, "whiten": o.Whiten, "adjust_scaling_factors": o.Alike,
	}
	return c
}

// SetConfig implements Options.
func (o *EVA) SetConfig(c map[string]any) error {
	if c["init_lora_weights"] != "eva" || truth(c, "use_dora") {
		return errors.New(`adapt: eva: init_lora_weights is not "eva", or use_dora is set`)
	}
	if e, ok := c["eva_config"].(map[string]any); ok {
		o.Rho, o.Tau, o.Whiten = number(e, "rho", 2), number(e, "tau", 0.99), truth(e, "whiten")
		mask, said := e["use_label_mask"].(bool)
		o.All = said && !mask
		alike, said := e["adjust_scaling_factors"].(bool)
		o.Alike = alike || !said
	}
	o.fixed = true
	return o.setConfig("eva", c)
}

// Prepare implements Preparer.
func (o *EVA) Prepare(ctx context.Context, a *Adapter, s Setup) error {
	if o.fixed {
		return nil
	}
	began := time.Now()
	e, err := o.listen(a, s.Seed)
	if err == nil {
		err = e.stream(ctx, s)
		e.stop()
	}
	if err != nil {
		return fmt.Errorf("adapt: eva: %w", err)
	}
	if err := o.install(a, e); err != nil {
		return fmt.Errorf("adapt: eva: %w", err)
	}
	o.fixed, o.seconds = true, time.Since(began).Seconds()
	return nil
}

// ears is the look at the data: a listener on every layer, and one stream for each
// distinct input.
type ears struct {
	o         *EVA
	layers    []*nn.Linear
	weights   []nn.Weight    // as they were
	of        []*inputStream // of each layer; nil before its first input
	ranks     []int          // asked for
	caps      []int          // largest rank of each layer
	needs     []int          // rank of each layer as far as is known
	budget    int
	seed      uint64
	seen      map[*grad.Value]*inputStream // inputs of this pass
	targets   []int32                      // of this pass: −1 for positions without a loss
	err       error
	streaming []*inputStream
}

// listener is a Weight that lets its input be heard.
type listener struct {
	nn.Weight
	hear func(x *grad.Value)
}

func (w listener) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	w.hear(x)
	return w.Weight.Apply(tp, x)
}

// listen puts a listener on every layer.
func (o *EVA) listen(a *Adapter, seed uint64) (*ears, error) {
	e := &ears{o: o, layers: a.Layers, of: make([]*inputStream, len(a.Layers)), seed: seed}
	for i, l := range a.Layers {
		out, in := l.Weight.Dims()
		r := a.Holds[i].(*loraWeight).a.Value.Dim(0)
		e.budget += r
		e.ranks, e.caps = append(e.ranks, r), append(e.caps, min(int(math.Round(o.Rho*float64(r))), out, in))
		e.weights = append(e.weights, l.Weight)
		l.Weight = listener{l.Weight, func(x *grad.Value) { e.hear(i, x) }}
	}
	return e, nil
}

// stop takes the listeners off.
func (e *ears) stop() {
	for i, l := range e.layers {
		l.Weight = e.weights[i]
	}
}

// hear takes the input of layer i. On the first pass a layer whose input another one
// has had joins it; later only the first of them is listened to.
func (e *ears) hear(i int, x *grad.Value) {
	if e.err != nil {
		return
	}
	if e.of[i] == nil {
		if s := e.seen[x]; s != nil {
			s.layers = append(s.layers, i)
			s.k = max(s.k, e.caps[i])
			e.of[i] = s
			return
		}
		s := &inputStream{layers: []int{i}, k: e.caps[i], in: x.Cols, seed: e.seed + uint64(i)}
		e.of[i], e.seen[x] = s, s
		e.streaming = append(e.streaming, s)
	}
	if s := e.of[i]; s.layers[0] == i && !s.done {
		e.err = s.take(e.rows(x))
	}
}

// rows returns the rows of x that count.
func (e *ears) rows(x *grad.Value) []float32 {
	if e.o.All || len(e.targets) != x.Rows {
		return x.Data
	}
	var rows []float32
	for r, t := range e.targets {
		if t >= 0 {
			rows = append(rows, x.Data[r*x.Cols:(r+1)*x.Cols]...)
		}
	}
	return rows
}

// stream runs batches through the model until all directions have converged.
func (e *ears) stream(ctx context.Context, s Setup) error {
	batches, err := s.Batches(e.o.Batches)
	if err != nil {
		return err
	}
	tp := grad.NewTape(nil)
	for _, b := range batches {
		if err := ctx.Err(); err != nil {
			return err
		}
		e.seen, e.targets = map[*grad.Value]*inputStream{}, nil
		if t, ok := b.(interface{ Targets() []int32 }); ok {
			e.targets = t.Targets()
		}
		tp.NoGrad(func() { b.Loss(tp, 1) })
		tp.Reset()
		if e.err != nil {
			return e.err
		}
		e.o.looked++
		if e.needs = e.distribute(); e.settled() {
			break
		}
	}
	e.needs = e.distribute()
	return e.enough()
}

// settled notes which streams have converged in what is needed of them, and reports
// whether all have.
func (e *ears) settled() bool {
	all := true
	for _, s := range e.streaming {
		s.done = true
		for _, i := range s.layers {
			s.done = s.done && s.converged(e.needs[i], e.o.Tau)
		}
		all = all && s.done
	}
	return all
}

// enough refuses ranks that the data cannot fill.
func (e *ears) enough() error {
	got := 0
	for i, l := range e.layers {
		if e.of[i] == nil {
			return fmt.Errorf("layer %s was given no input by the training data; leave it out of the targets", l.Name)
		}
		got += e.needs[i]
	}
	if got < e.budget {
		return fmt.Errorf("the inputs of the layers have %d directions at rank up to %g times the average, %d are wanted; use longer batches, more of them, or a smaller rank", got, e.o.Rho, e.budget)
	}
	return nil
}

// distribute gives the budget to the components with the largest shares of their
// inputs' variance. Of equal shares the earlier layer's comes first.
func (e *ears) distribute() []int {
	shares := make([][]float64, len(e.layers))
	for i, s := range e.of {
		if s != nil {
			all := s.shares()
			shares[i] = all[:min(len(all), e.caps[i])]
		}
	}
	return distribute(shares, e.budget)
}

// distribute returns how many of the n largest values each list holds; the lists fall.
func distribute(lists [][]float64, n int) []int {
	type place struct {
		list  int
		value float64
	}
	var all []place
	for i, list := range lists {
		for _, v := range list {
			all = append(all, place{i, v})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].value > all[j].value })
	counts := make([]int, len(lists))
	for _, p := range all[:min(n, len(all))] {
		counts[p.list]++
	}
	return counts
}

// install starts the layers' pairs anew, with the directions found. A layer of rank 0
// gets its own weight back and leaves the adapter.
func (o *EVA) install(a *Adapter, e *ears) error {
	ranks, alphas := map[string]int{}, map[string]float64{}
	var kept Adapter
	for i, l := range a.Layers {
		r := e.needs[i]
		if r == 0 {
			l.Weight = a.bases[i]
			continue
		}
		w := a.Holds[i].(*loraWeight)
		kept.Layers, kept.Holds, kept.bases = append(kept.Layers, l), append(kept.Holds, w), append(kept.bases, a.bases[i])
		_, alpha, err := o.of("eva", l.Name)
		if err != nil {
			return err
		}
		if o.Alike {
			alpha *= float64(r) / float64(e.ranks[i])
		}
		out, _ := w.Dims()
		w.a.Value, w.b.Value, w.scale = e.of[i].directions(r, o.Whiten), tensor.New(out, r), o.scale(r, alpha)
		if r != o.Rank {
			ranks[l.Name] = r
		}
		if alpha != o.Alpha {
			alphas[l.Name] = alpha
		}
	}
	if len(kept.Layers) < len(a.Layers) {
		a.Layers, a.Holds, a.bases, a.Targets = kept.Layers, kept.Holds, kept.bases, nil
		for _, l := range a.Layers {
			a.Targets = append(a.Targets, l.Name)
		}
	}
	o.RankPattern, o.AlphaPattern = ranks, alphas
	return nil
}

// Figures implements Figured: the ranks that the layers were given, and what the look
// at the data took.
func (o *EVA) Figures(a *Adapter) map[string]float64 {
	f := rankFigures(a, func(h Attached) int { return h.(*loraWeight).a.Value.Dim(0) })
	f["seconds before the first step"], f["batches looked at"] = o.seconds, float64(o.looked)
	return f
}
