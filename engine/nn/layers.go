package nn

import "tare/engine/grad"

// RMSNorm scales each row by its root mean square. (Zhang and Sennrich 2019,
// arXiv:1910.07467.)
type RMSNorm struct {
	Weight  *grad.Param // [d]
	Eps     float32
	PlusOne bool // multiply by 1 + Weight
}

// Apply returns the normalised rows of x [n, d].
func (n *RMSNorm) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	if n.PlusOne {
		return tp.RMSNormPlusOne(x, n.Weight, n.Eps)
	}
	return tp.RMSNorm(x, n.Weight, n.Eps)
}

// LayerNorm centres and scales each row. (Ba et al. 2016, arXiv:1607.06450.)
type LayerNorm struct {
	Weight, Bias *grad.Param // [d]
	Eps          float32
}

// Apply returns the normalised rows of x [n, d].
func (n *LayerNorm) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.LayerNorm(x, n.Weight, n.Bias, n.Eps)
}

// Embedding is a table of rows [vocab, d].
type Embedding struct{ Table *grad.Param }

// Apply returns the rows named by ids [n] as [n, d].
func (e *Embedding) Apply(tp *grad.Tape, ids []int32) *grad.Value { return tp.Embed(ids, e.Table) }
