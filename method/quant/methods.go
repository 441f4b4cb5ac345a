// Package quant holds the methods that store weights in fewer bits. A method
// turns one layer's matrix into a packed nn.Weight; Methods lists them. Streaming
// through a checkpoint is Checkpoint's work, products over packed weights the
// kernels'.
package quant

import (
	"fmt"
	"strings"

	"tare/engine/nn"
	"tare/engine/tensor"
)

// Stats says what a method wants to know of a layer's inputs. The zero value asks
// for nothing, and no calibration text is read.
type Stats struct {
	AbsMean bool // mean |x| by input column
	Gram    bool // XᵀX
}

// Observed holds the statistics that were asked for, over the calibration rows.
type Observed struct {
	Rows    int
	AbsMean []float32      // [in]
	Gram    *tensor.Tensor // [in, in]
}

// LayerMethod quantizes one layer at a time.
type LayerMethod interface {
	// Needs says which statistics QuantizeLayer reads.
	Needs() Stats
	// QuantizeLayer returns the packed weight of w [out, in], f32. x may be nil when
	// nothing is needed.
	QuantizeLayer(name string, w *tensor.Tensor, x *Observed) (nn.Weight, error)
}

// Options are the settings that recipes and flags give.
type Options struct {
	Bits      int  `yaml:"bits" help:"Bits a weight." default:"4"`
	Group     int  `yaml:"group" help:"Weights that share a scale; a multiple of 32." default:"64"`
	Symmetric bool `yaml:"symmetric" help:"Grids symmetric around zero, without zero points."`
}

// Validate says all that is wrong at once.
func (o Options) Validate() error {
	var wrong []string
	if o.Bits != 4 {
		wrong = append(wrong, fmt.Sprintf("bits %d (known: 4)", o.Bits))
	}
	if o.Group < 32 || o.Group%32 != 0 {
		wrong = append(wrong, fmt.Sprintf("group %d (want a positive multiple of 32)", o.Group))
	}
	if wrong != nil {
		return fmt.Errorf("quant: %s", strings.Join(wrong, "; "))
	}
	return nil
}

// Method is one row of the family.
type Method struct {
	Name string
	Slug string // its page in the catalog; empty for a baseline
	New  func(Options) LayerMethod
}

// Methods lists the family.
func Methods() []Method {
	return []Method{
		{"rtn", "", func(o Options) LayerMethod { return &RTN{Group: o.Group, Symmetric: o.Symmetric} }},
	}
}

// ByName returns the method with that name.
func ByName(name string) (Method, error) {
	var known []string
	for _, m := range Methods() {
		if m.Name == name {
			return m, nil
		}
		known = append(known, m.Name)
	}
	return Method{}, fmt.Errorf("quant: method %q is not known (known: %s)", name, strings.Join(known, ", "))
}
