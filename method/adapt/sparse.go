package adapt

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// Sparse trains m single entries of each weight in place, the largest |W| or random
// ones: the plainest choices, which LIFT is measured against.
//
//	m = (in + out)·rank, as many as LoRA trains, or density·in·out
//
// Gradient and optimizer state exist for these entries only, as lists of length m. The
// gradient dW[p,q] = Σ_n dy[n,p] x[n,q] is gathered from products of 64 rows of dW at a
// time: it costs full fine-tuning's arithmetic, one such tile of memory, and x is kept.
// With m = in·out this is full fine-tuning of W.
//
// Weights must be dense, and are held as f32. Merging is the identity. Files hold the entries that were
// trained and their flat row-major positions.
type Sparse struct {
	Rank    int     `yaml:"rank" help:"LoRA rank whose number of trained entries is matched; 0 goes by density." default:"0"`
	Density float64 `yaml:"density" help:"Fraction of the entries that train, where rank is 0." default:"0.05"`
	Choice  string  `yaml:"choice" help:"Which entries: magnitude for those of largest absolute value, or random." default:"magnitude"`

	fromFile bool // a file says which entries
}

// NewSparse returns the defaults: the largest 5 % of the entries.
func NewSparse() *Sparse { return &Sparse{Density: 0.05, Choice: "magnitude"} }

// Validate implements Options.
func (o *Sparse) Validate() error {
	err := checkDensity("sparse", o.Rank, o.Density)
	if o.Choice != "magnitude" && o.Choice != "random" {
		err = errors.Join(err, fmt.Errorf("adapt: sparse: choice %q, want magnitude or random", o.Choice))
	}
	return err
}

func checkDensity(method string, rank int, density float64) error {
	var errs []error
	if rank < 0 {
		errs = append(errs, fmt.Errorf("adapt: %s: rank %d, want 0 or more", method, rank))
	}
	if rank == 0 && !(density > 0 && density <= 1) {
		errs = append(errs, fmt.Errorf("adapt: %s: density %g, want above 0 and at most 1", method, density))
	}
	return errors.Join(errs...)
}

// Attach implements Options.
func (o *Sparse) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	s, err := newSparse("sparse", l)
	if err != nil || o.fromFile {
		return s, err
	}
	w := s.p.Value.F32()
	m := entries(o.Rank, o.Density, s.p.Value)
	if o.Choice == "random" {
		s.train(rand.New(rand.NewPCG(seed, 0)).Perm(len(w))[:m])
	} else {
		s.train(topEntries(magnitudes(w), m))
	}
	return s, nil
}

// Config implements Options.
func (o *Sparse) Config() map[string]any {
	return map[string]any{"r": o.Rank, "density": o.Density, "choice": o.Choice}
}

// SetConfig implements Options.
func (o *Sparse) SetConfig(c map[string]any) error {
	o.Rank, o.Density, o.fromFile = integer(c, "r", 0), number(c, "density", 0.05), true
	if s, ok := c["choice"].(string); ok {
		o.Choice = s
	}
	return nil
}

// entries returns m, how many entries of w train.
func entries(rank int, density float64, w *tensor.Tensor) int {
	out, in := w.Dim(0), w.Dim(1)
	m := int(math.Round(density * float64(out) * float64(in)))
	if rank > 0 {
		m = (in + out) * rank
	}
	return min(max(1, m), in*out)
}

func magnitudes(w []float32) []float32 {
	score := make([]float32, len(w))
	for i, v := range w {
		score[i] = max(v, -v)
	}
	return score
}

// topEntries returns the positions of the m largest scores in rising order; of equal
// ones the first. It destroys nothing and takes linear time.
func topEntries(score []float32, m int) []int {
	least := nthLargest(slices.Clone(score), m)
	equal := m
	for _, v := range score {
		if v > least {
			equal--
		}
	}
	index := make([]int, 0, m)
	for i, v := range score {
		if v > least {
			index = append(index, i)
		} else if v == least && equal > 0 {
			index = append(index, i)
			equal--
		}
	}
	return index
}

// nthLargest returns the n-th largest of v, n ≥ 1, and shuffles v: Hoare's quickselect
// with the median of three.
func nthLargest(v []float32, n int) float32 {
	lo, hi, k := 0, len(v)-1, n-1
	for lo < hi {
		a, b, c := v[lo], v[lo+(hi-lo)/2], v[hi]
		pivot := max(min(a, b), min(max(a, b), c))
		i, j := lo, hi
		for i <= j {
			for v[i] > pivot {
				i++
			}
			for v[j] < pivot {
				j--
			}
			if i <= j {
				v[i], v[j] = v[j], v[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return v[k]
		}
	}
	return v[k]
}

// sparse is a hold on the single entries of a dense weight.
type sparse struct {
	layer *nn.Linear
	p     *grad.Param
	left  []int // trained before, not now; in rising order
}

// newSparse takes hold of a layer whose entries can train in place; none train yet.
func newSparse(method string, l *nn.Linear) (*sparse, error) {
	d, ok := l.Weight.(nn.Dense)
	if !ok {
		return nil, fmt.Errorf("adapt: %s: layer %s is held as %T, and single entries of the weight itself are to train; load the base unpacked", method, l.Name, l.Weight)
	}
	return &sparse{layer: l, p: d.P}, makeTrainable(d.P)
}

// part returns the part at those positions: the whole, where it is all of them.
func (s *sparse) part(index []int) grad.Part {
	if len(index) == s.p.Value.Len() {
		return grad.Whole
	}
	return grad.EntriesOf(index)
}

func (s *sparse) train(index []int) { s.p.Part = s.part(index) }

// leave notes the entries of the part from that no longer train.
func (s *sparse) leave(from []int) {
	now, all := s.p.Flat(), slices.Concat(s.left, from)
	slices.Sort(all)
	s.left = s.left[:0]
	for _, at := range slices.Compact(all) {
		if _, trains := slices.BinarySearch(now, at); !trains {
			s.left = append(s.left, at)
		}
	}
}

func (s *sparse) Params() []*grad.Param { return []*grad.Param{s.p} }

// State lists every entry that has trained, the left ones too.
func (s *sparse) State() []Named {
	index := slices.Concat(s.p.Flat(), s.left)
	slices.Sort(index)
	return []Named{{"sparse_indices", positionsOf(index)}, {"sparse_values", s.values(index)}}
}

func positionsOf(index []int) *tensor.Tensor {
	t := tensor.NewOf(tensor.I64, len(index))
	for i, at := range index {
		t.I64()[i] = int64(at)
	}
	return t
}

func (s *sparse) values(index []int) *tensor.Tensor {
	t := tensor.New(len(index))
	for i, at := range index {
		t.F32()[i] = s.p.Value.F32()[at]
	}
	return t
}

// Restore makes a file's entries train.
func (s *sparse) Restore(state map[string]*tensor.Tensor) error {
	index, err := positions(state, "sparse_indices", s.p.Value.Len())
	if err != nil {
		return fmt.Errorf("adapt: layer %s: %w", s.layer.Name, err)
	}
	values := tensor.New(len(index))
	if err := restore(values, state, "sparse_values"); err != nil {
		return err
	}
	s.train(index)
	s.p.Scatter(values.F32())
	return nil
}

// positions reads a list of distinct positions below limit in rising order.
func positions(state map[string]*tensor.Tensor, name string, limit int) ([]int, error) {
	t, ok := state[name]
	if !ok || t.DType() != tensor.I64 {
		return nil, fmt.Errorf("the file has no %s of type I64", name)
	}
	index := make([]int, t.Len())
	for i, at := range t.I64() {
		if at < 0 || at >= int64(limit) || i > 0 && int(at) <= index[i-1] {
			return nil, fmt.Errorf("%s[%d] is %d, want positions below %d in rising order", name, i, at, limit)
		}
		index[i] = int(at)
	}
	return index, nil
}
