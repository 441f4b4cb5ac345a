package adapt

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"tare/engine/model"
	"tare/engine/nn"
)

// S2FT trains a few attention heads and MLP channels of each block as dense slices of
// the weights themselves (Yang et al. 2024, "S²FT: Efficient, Scalable and
// Generalizable LLM Fine-tuning by Structured Sparsity", arXiv:2412.06289):
//
//	o = W_o [h_1 … h_H],  d = W_d (σ(W_g x) ⊙ W_u x):   W_o[:, S], W_d[:, T] train
//
// While it trains, the matrices that meet in a head or channel (q, k, v rows with o
// columns; gate and up rows with down columns) are permuted together so that S and T
// come first: the network's function is the same and the slice is contiguous, of the
// input only the slice is kept and of the gradient only the slice computed. Heads that
// share keys and values stay together: whole groups are chosen, then heads of one more
// group, so that k heads are the first k. When training ends everything is put back.
//
// Default targets are o and down; rows of v, up and gate train when named. Trained
// entries: out·|S| for columns, |S|·in for rows. ratio is the fraction of heads and of
// channels; where it is 0, a block trains about as many entries as LoRA of rank rank
// on all its layers: heads to the nearest, the rest in channels.
//
// Where a coupled matrix is packed or mapped from a file, nothing is permuted; columns of
// a packed one are held apart in f32, as in [PaCA]. Files hold ΔW of the slice and its indices in the original
// order (see [Slices]); beside the slice its first values are kept for that.
type S2FT struct {
	Rank    int     `yaml:"rank" help:"LoRA rank whose number of trained entries a block matches, where ratio is 0." default:"8"`
	Ratio   float64 `yaml:"ratio" help:"Fraction of the heads and of the channels that train; 0 goes by rank." default:"0"`
	Choice  string  `yaml:"choice" help:"By what heads and channels are chosen: random, weight, activation, product (weight times activation) or gradient." default:"random"`
	End     string  `yaml:"end" help:"Which end of that order trains: large or small." default:"large"`
	Batches int     `yaml:"batches" help:"Micro-batches that activations or gradients are measured on." default:"4"`

	fromFile bool // a file says which heads and channels
}

// NewS2FT returns the defaults: random heads and channels, as many entries as LoRA of
// rank 8.
func NewS2FT() *S2FT { return &S2FT{Rank: 8, Choice: "random", End: "large", Batches: 4} }

// Validate implements Options.
func (o *S2FT) Validate() error {
	var errs []error
	say := func(format string, args ...any) { errs = append(errs, fmt.Errorf("adapt: s2ft: "+format, args...)) }
	if !(o.Ratio >= 0 && o.Ratio <= 1) {
		say("ratio %g, want 0 to 1", o.Ratio)
	}
	if o.Ratio == 0 && o.Rank < 1 {
		say("rank %d, want at least 1", o.Rank)
	}
	switch o.Choice {
	case "random", "weight", "activation", "product", "gradient":
	default:
		say("choice %q, want random, weight, activation, product or gradient", o.Choice)
	}
	if o.End != "large" && o.End != "small" {
		say("end %q, want large or small", o.End)
	}
	if o.Batches < 1 {
		say("batches %d, want at least 1", o.Batches)
	}
	return errors.Join(errs...)
}

// Config implements Options.
func (o *S2FT) Config() map[string]any {
	return map[string]any{"r": o.Rank, "ratio": o.Ratio, "choice": o.Choice, "end": o.End}
}

// SetConfig implements Options.
func (o *S2FT) SetConfig(c map[string]any) error {
	o.Rank, o.Ratio, o.fromFile = integer(c, "r", 8), number(c, "ratio", 0), true
	for key, to := range map[string]*string{"choice": &o.Choice, "end": &o.End} {
		if s, ok := c[key].(string); ok {
			*to = s
		}
	}
	return nil
}

// Attach implements Options: the layers must be seen together, so it refuses.
func (o *S2FT) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	return nil, fmt.Errorf("adapt: s2ft: layer %s alone says nothing of the layers it is coupled with; use adapt.Attach", l.Name)
}

// couplings are the ends of the names of layers that meet in heads or channels. The
// attention of GPT-2 is not among them: its q, k and v are rows of one layer.
var couplings = []struct {
	rows      []string // their outputs are the channels
	columns   []string // its inputs are the channels
	attention bool
}{
	{[]string{"q_proj", "k_proj", "v_proj"}, []string{"o_proj", "dense", "out_proj"}, true},
	{[]string{"gate_proj", "up_proj"}, []string{"down_proj"}, false},
	{[]string{"fc1"}, []string{"fc2"}, false},
	{[]string{"c_fc"}, []string{"mlp.c_proj"}, false},
	{[]string{"query", "key", "value"}, []string{"attention.output.dense"}, true},
	{[]string{"intermediate.dense"}, []string{"output.dense"}, false},
}

// ending returns the layer whose name ends so, of several the one of the shortest name.
func ending(layers []*nn.Linear, end string) *nn.Linear {
	var found *nn.Linear
	for _, l := range layers {
		if strings.HasSuffix(l.Name, "."+end) && (found == nil || len(l.Name) < len(found.Name)) {
			found = l
		}
	}
	return found
}

// coupling is one attention or MLP of a model.
type coupling struct {
	rows    []*nn.Linear
	columns *nn.Linear
	end     string // of columns' name
	// The channels come in heads of width columns; groups of them share keys and values.
	// In an MLP every channel is a head and a group.
	heads, groups, width int

	order    []int    // the heads, those that train first
	count    int      // how many train
	holds    []*slice // on the layers that train
	arranged bool     // the channels stand in that order
}

// network is what S²FT asks of a model.
type network interface {
	Info() *model.Config
	Blocks() []model.Block
}

// couplingsOf returns the attentions and MLPs of every block.
func couplingsOf(m Model) ([][]*coupling, error) {
	net, ok := m.(network)
	if !ok {
		return nil, fmt.Errorf("adapt: s2ft: %T has no blocks whose heads and channels are known", m)
	}
	info := net.Info()
	var blocks [][]*coupling
	for i, b := range net.Blocks() {
		size := info.LayerSize(i)
		layers := b.Linears()
		var found []*coupling
		for _, names := range couplings {
			c := &coupling{heads: size.Heads, groups: size.KVHeads, width: info.HeadDim}
			for _, name := range names.rows {
				if l := ending(layers, name); l != nil {
					c.rows = append(c.rows, l)
				}
			}
			for _, name := range names.columns {
				if l := ending(layers, name); l != nil && c.columns == nil {
					c.columns, c.end = l, name
				}
			}
			if len(c.rows) < len(names.rows) || c.columns == nil {
				continue
			}
			_, in := c.columns.Weight.Dims()
			if !names.attention {
				c.heads, c.groups, c.width = in, in, 1
			}
			if c.heads*c.width != in {
				return nil, fmt.Errorf("adapt: s2ft: layer %s has %d inputs, which are not %d heads of %d", c.columns.Name, in, c.heads, c.width)
			}
			found = append(found, c)
		}
		blocks = append(blocks, found)
	}
	return blocks, nil
}

// DefaultTargets implements Targeter: the layers whose columns are heads or channels.
func (o *S2FT) DefaultTargets(m Model) []string {
	blocks, err := couplingsOf(m)
	var names []string
	if err == nil && len(blocks) > 0 {
		for _, c := range blocks[0] {
			names = append(names, c.end)
		}
	}
	if len(names) == 0 {
		return []string{"o_proj", "down_proj"}
	}
	return names
}

// Couple implements Coupler.
func (o *S2FT) Couple(m Model, layers []*nn.Linear, seed uint64) (func(*nn.Linear, uint64) (Attached, error), error) {
	blocks, err := couplingsOf(m)
	if err != nil {
		return nil, err
	}
	of := map[*nn.Linear]*coupling{}
	for _, l := range layers {
		for _, c := range flat(blocks) {
			if c.trainable(l) {
				of[l] = c
				c.holds = append(c.holds, &slice{layer: l, found: l.Weight, c: c, rows: l != c.columns})
			}
		}
		if of[l] == nil {
			return nil, fmt.Errorf("adapt: s2ft: layer %s has no heads or channels to choose; targets may be the layers after an attention or an MLP's activation (o_proj, down_proj, dense, fc2, …) and those before (v_proj, up_proj, gate_proj, fc1); name some with the targets", l.Name)
		}
	}
	if !o.fromFile {
		for _, cs := range blocks {
			o.count(cs)
		}
		for _, c := range flat(blocks) {
			if len(c.holds) > 0 {
				score, err := o.score(c, seed)
				if err != nil {
					return nil, err
				}
				c.sort(score, o.End == "small")
			}
		}
	}
	return func(l *nn.Linear, _ uint64) (Attached, error) {
		for _, h := range of[l].holds {
			if h.layer == l {
				if o.fromFile {
					return h, nil
				}
				return h, h.train(of[l].chosen(h.rows))
			}
		}
		return nil, nil // not reached: of[l] holds l
	}, nil
}

func flat(blocks [][]*coupling) []*coupling {
	var all []*coupling
	for _, cs := range blocks {
		all = append(all, cs...)
	}
	return all
}

// trainable reports whether a slice of l can train: of q and k it cannot, whose heads
// meet in the scores and not in the output.
func (c *coupling) trainable(l *nn.Linear) bool {
	if l == c.columns {
		return true
	}
	for i, r := range c.rows {
		if l == r {
			return c.width == 1 || i == len(c.rows)-1
		}
	}
	return false
}

// cost returns how many entries train when k heads do.
func (c *coupling) cost(k int) int {
	n := 0
	for _, h := range c.holds {
		out, in := h.found.Dims()
		if h.rows {
			n += c.shared(k) * out / c.groups * in
		} else {
			n += k * c.width * out
		}
	}
	return n
}

// shared returns how many groups the first k heads reach into.
func (c *coupling) shared(k int) int {
	each := c.heads / c.groups
	return (k + each - 1) / each
}

// count decides how many heads and channels of a block train.
func (o *S2FT) count(cs []*coupling) {
	budget, full := 0, 0
	for _, c := range cs {
		if len(c.holds) == 0 {
			continue
		}
		for _, l := range append([]*nn.Linear{c.columns}, c.rows...) {
			out, in := l.Weight.Dims()
			budget += o.Rank * (out + in)
		}
		full += c.cost(c.heads)
	}
	for _, c := range cs { // attention first: its heads are coarse, channels take the rest
		if len(c.holds) == 0 {
			continue
		}
		ratio := o.Ratio
		if ratio == 0 {
			ratio = float64(budget) / float64(full)
		}
		c.count = min(max(1, int(math.Round(ratio*float64(c.heads)))), c.heads)
		budget, full = budget-c.cost(c.count), full-c.cost(c.heads)
	}
}
