// Package merge holds the methods that make one model of several. A method is a
// function of one tensor's versions; streaming over checkpoints with bounded
// memory, recipes and file formats are Run's and Recipe's work.
package merge

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"tare/engine/tensor"
)

// Input is a piece of one tensor in all models of a merge: its version in each, in
// the recipe's order, and in the base, nil where there is none. All are f32; a
// method may write to none of them but Out.
type Input struct {
	Name   string
	Shape  []int // of the whole tensor
	Off    int   // where the piece begins in it
	Base   *tensor.Tensor
	Models []*tensor.Tensor
	// Params holds each model's parameters for this tensor and Global those of the
	// whole merge, standard values filled in.
	Params []Params
	Global Params
	Seed   uint64
	Found  any // what Measure found out about the whole tensor
	Out    *tensor.Tensor
}

// Whole is one tensor of a merge in all models, for a method that must see all of it
// before it can merge a piece.
type Whole struct {
	Input   // of no piece: its tensors are nil
	HasBase bool
	// Each hands the tensor's pieces over in their order. It may be called again.
	Each func(see func(piece *Input) error) error
}

// Params are a recipe's numbers and switches by name.
type Params map[string]float64

// on reports whether a switch is set.
func (p Params) on(name string) bool { return p[name] != 0 }

// Param is one parameter of a method.
type Param struct {
	Name     string
	ByModel  bool    // each model has its own; else there is one for the merge
	Standard float64 // NaN where the recipe must say it
	Min, Max float64 // the values that make sense
	About    string
}

// Use says what a method does with the base model.
type Use int

const (
	BaseIsModel  Use = iota // it knows no base: base_model is merged as one more model
	BaseOptional            // it works on changes from the base where one is named
	BaseRequired
)

// Cut says into what pieces a method lets a tensor be cut.
type Cut int

const (
	CutAnywhere Cut = iota // entry by entry, given what Measure found
	CutRows                // whole rows, the first dimension's
)

// Method is one row of the family.
type Method struct {
	Name   string // as mergekit's merge_method says it
	Slug   string // its page in the catalog; empty for a baseline
	Base   Use
	Least  int  // fewest models, the base not counted unless it is merged as one
	Most   int  // and most; 0 for any number
	Repeat bool // a model may be listed twice
	Params []Param
	Cut    Cut
	// Check refuses parameters of one tensor that do not go together; nil for none such.
	Check func(models []Params, global Params) error
	// Measure looks at a whole tensor before its pieces are merged; nil where that
	// needs no look.
	Measure func(t *Whole) (found any, err error)
	// Merge writes the merged piece to in.Out.
	Merge func(in *Input) error
}

// must marks a parameter without a standard value.
var must = math.NaN()

var (
	anyWeight = Param{"weight", true, 1, math.Inf(-1), math.Inf(1), "the model's share"}
	normalize = Param{"normalize", false, 1, 0, 1, "divide by the sum of weights"}
)

// Methods lists the family.
func Methods() []Method {
	return []Method{
		{Name: "linear", Least: 1, Repeat: true, Params: []Param{anyWeight, normalize}, Check: canNormalize, Merge: Linear},
		{Name: "passthrough", Least: 1, Most: 1, Merge: Passthrough,
			Params: []Param{{"scale", true, 1, math.Inf(-1), math.Inf(1), "factor of the tensor"}}},
		Slerp.method("slerp", BaseRequired, 1, 1, Param{"t", false, must, 0, 1, "0 is the base, 1 the other model"}),
		NuSlerp.method("nuslerp", BaseOptional, 2, 2, anyWeight,
			Param{"nuslerp_flatten", false, 1, 0, 1, "the tensor is one vector"},
			Param{"nuslerp_row_wise", false, 0, 0, 1, "if not flattened: vectors run along the first dimension instead of the last"}),
		MultiSlerp.method("multislerp", BaseOptional, 1, 0, anyWeight,
			Param{"normalize_weights", false, 1, 0, 1, "divide the weights by their sum"}, Param{"eps", false, 1e-8, 0, 1, "a length that counts as none"}),
		Karcher.method("karcher", BaseIsModel, 1, 0,
			Param{"max_iter", false, 10, 0, 1e6, "most steps"}, Param{"tol", false, 1e-5, 0, 1, "least step"}),
		ModelStock.method("model_stock", BaseRequired, 2, 0, Param{"filter_wise", false, 0, 0, 1, "a ratio for each vector along the last dimension"}),
		{Name: "nearswap", Base: BaseRequired, Least: 1, Most: 1, Merge: Nearswap,
			Params: []Param{{"t", false, must, 0, math.Inf(1), "the difference up to which the other model counts whole"}}},
		{Name: "arcee_fusion", Base: BaseRequired, Least: 1, Most: 1, Cut: CutRows, Measure: measureFusion, Merge: ArceeFusion},
		{Name: "sce", Base: BaseRequired, Least: 1, Measure: measureSCE, Merge: SCE,
			Params: []Param{{"select_topk", false, 1, 0, 1, "the fraction of entries that is kept"}}},
		RAM{}.method("ram"),
		RAM{Boost: true}.method("ramplus_tl"),
		Change{}.method("task_arithmetic", ""),
		Change{Sparsify: ByMagnitude, Elect: true, Normalize: true}.method("ties", ""),
		Change{Sparsify: AtRandom, Rescale: true}.method("dare_linear", ""),
		Change{Sparsify: AtRandom, Elect: true, Rescale: true}.method("dare_ties", ""),
		Change{Sparsify: ByRank, Elect: true, Normalize: true, Rescale: true}.method("della", ""),
		Change{Sparsify: ByRank, Rescale: true}.method("della_linear", ""),
		Breadcrumbs.method("breadcrumbs", "breadcrumbs"),
		Change{Sparsify: WithoutOutliers, Elect: true}.method("breadcrumbs_ties", "breadcrumbs"),
		{Name: "widen", Slug: "widen", Base: BaseRequired, Least: 1, Measure: measureWIDEN, Merge: WIDEN, Params: []Param{
			{"t", false, 1, 0, math.Inf(1), "a rank above t times the model's mean rank is calibrated"},
			{"s", false, 1, 0, math.Inf(1), "the score of what is calibrated"}}},
	}
}

// ByName returns the method with that name.
func ByName(name string) (Method, error) {
	for _, m := range Methods() {
		if m.Name == name {
			return m, nil
		}
	}
	return Method{}, fmt.Errorf("merge: merge_method %q is not known (known: %s)", name, strings.Join(methodNames(), ", "))
}

func methodNames() (names []string) {
	for _, m := range Methods() {
		names = append(names, m.Name)
	}
	return names
}

// param finds a parameter by its name.
func (m *Method) param(name string) (Param, bool) {
	if i := slices.IndexFunc(m.Params, func(p Param) bool { return p.Name == name }); i >= 0 {
		return m.Params[i], true
	}
	return Param{}, false
}
