package quant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"tare/engine/checkpoint"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// CheckpointOptions shapes Checkpoint. Options must be those that the method was made
// with.
type CheckpointOptions struct {
	Options
	Head       bool  // quantize lm_head too
	Overwrite  bool  // replace a model that stands under the output's name
	ShardBytes int64 // most bytes of one file; 0 means the checkpoint package's default
	// Progress, if set, is called before each tensor with its name and the bytes of the
	// source that are done.
	Progress func(name string, done, total int64)
}

// LayerReport is what quantization did to one layer.
type LayerReport struct {
	Name  string  `json:"name"`
	Out   int     `json:"out"`
	In    int     `json:"in"`
	Error float64 `json:"error"` // ‖W−Ŵ‖ / ‖W‖, Frobenius
}

// Report is what quantization did to a checkpoint.
type Report struct {
	Layers []LayerReport `json:"layers"`
	Before int64         `json:"before"` // bytes of tensors
	After  int64         `json:"after"`
}

// Checkpoint quantizes the linear layers of src into a folder outDir that
// model.LoadCausal reads. Everything else is copied as it is. One layer is in memory at a time, and
// outDir appears when all is written; when ctx ends nothing is left.
func Checkpoint(ctx context.Context, src *checkpoint.Folder, outDir string, m LayerMethod, o CheckpointOptions) (Report, error) {
	if err := o.Validate(); err != nil {
		return Report{}, err
	}
	if m.Needs() != (Stats{}) {
		return Report{}, errors.New("quant: the method needs statistics of the layers' inputs, and calibration text was not given")
	}
	c, layers, err := layersOf(src, o.Head)
	if err != nil {
		return Report{}, err
	}
	p := plan(src, layers, o.Group)
	w, err := checkpoint.CreateFolder(outDir, p.specs, checkpoint.FolderOptions{ShardBytes: o.ShardBytes, Overwrite: o.Overwrite})
	if err != nil {
		return Report{}, err
	}
	defer w.Abort()
	report := Report{Before: p.before, After: p.after}
	var done int64
	for _, name := range src.Names() {
		if err := ctx.Err(); err != nil {
			return Report{}, err
		}
		if o.Progress != nil {
			o.Progress(name, done, p.before)
		}
		t, err := finite(src, name)
		if err != nil {
			return Report{}, err
		}
		if spec, ok := layers[name]; ok {
			err = quantizeInto(w, spec, t, m, o.Group, &report)
		} else {
			err = w.Write(t)
		}
		if err != nil {
			return Report{}, err
		}
		done += int64(len(t.Bytes()))
	}
	config, err := withQuantization(c, o.Options)
	if err != nil {
		return Report{}, err
	}
	if err := w.File("config.json", config); err != nil {
		return Report{}, err
	}
	if err := w.CopyFrom(src, checkpoint.AuxiliaryFiles()...); err != nil {
		return Report{}, err
	}
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	return report, w.Close()
}

// layersOf returns the layers to quantize by the names of their tensors.
func layersOf(src *checkpoint.Folder, head bool) (*model.Config, map[string]model.LinearSpec, error) {
	if src.Config == nil {
		return nil, nil, fmt.Errorf("quant: %s has no config.json, which says what the tensors are: %w", src.Dir, checkpoint.ErrMissing)
	}
	c, err := model.ParseConfig(src.Config)
	if err != nil {
		return nil, nil, err
	}
	if have, ok := c.Raw["quantization_config"]; ok && string(have) != "null" {
		return nil, nil, fmt.Errorf("quant: %s is quantized already (%s); start from the original", src.Dir, have)
	}
	specs, err := model.LayoutIn(c, src.Names())
	if err != nil {
		return nil, nil, err
	}
	layers := map[string]model.LinearSpec{}
	for _, s := range specs {
		name := s.Name + ".weight"
		info, ok := src.Info(name)
		switch {
		case s.Name == "lm_head" && (!ok || !head):
			continue // tied after all, or left as it is
		case !ok:
			return nil, nil, fmt.Errorf("quant: %s: tensor %q, which config.json asks for, is not there: %w", src.Dir, name, checkpoint.ErrMissing)
		case !slices.Equal(info.Shape, s.Shape()):
			return nil, nil, fmt.Errorf("quant: %s: tensor %q: %w: %v, want %v", info.File, name, model.ErrShape, info.Shape, s.Shape())
		case !info.DType.IsFloat():
			return nil, nil, fmt.Errorf("quant: %s: tensor %q is %s, want a floating-point type: %w", info.File, name, info.DType, checkpoint.ErrFormat)
		}
		layers[name] = s
	}
	return c, layers, nil
}

// outline is what will be written, in order, and the bytes of before and after.
type outline struct {
	specs         []checkpoint.Spec
	before, after int64
}

// plan replaces every layer's matrix by its three packed tensors, under the names
// that the model package reads.
func plan(src *checkpoint.Folder, layers map[string]model.LinearSpec, group int) outline {
	var p outline
	add := func(name string, dtype tensor.DType, shape ...int) {
		p.specs = append(p.specs, checkpoint.Spec{Name: name, DType: dtype, Shape: shape})
		n := int64(dtype.Size())
		for _, d := range shape {
			n *= int64(d)
		}
		p.after += n
	}
	for _, name := range src.Names() {
		info, _ := src.Info(name)
		p.before += info.Bytes
		s, ok := layers[name]
		if !ok {
			add(name, info.DType, info.Shape...)
			continue
		}
		groups := (s.In + group - 1) / group
		add(s.Name+".q4_codes", tensor.U8, s.Out, (s.In+31)/32*16)
		add(s.Name+".q4_scales", tensor.F16, s.Out, groups)
		add(s.Name+".q4_zeros", tensor.U8, s.Out, groups)
	}
	return p
}

// finite returns a tensor of src and refuses NaN and Inf.
func finite(src *checkpoint.Folder, name string) (*tensor.Tensor, error) {
	t, err := src.Tensor(name)
	if err != nil {
		return nil, err
	}
	if i := t.FirstNonFinite(); i >= 0 {
		info, _ := src.Info(name)
		at := make([]int, len(t.Shape()))
		for d := len(at) - 1; d >= 0; d-- {
			at[d] = i % t.Dim(d)
			i /= t.Dim(d)
		}
		return nil, fmt.Errorf("quant: %s: tensor %q: entry %v is NaN or Inf; the file is damaged or training diverged: %w", info.File, name, at, checkpoint.ErrNonFinite)
	}
	return t, nil
}

// quantizeInto writes one layer's packed tensors and reports the error.
func quantizeInto(w *checkpoint.FolderWriter, spec model.LinearSpec, t *tensor.Tensor, m LayerMethod, group int, report *Report) error {
	full, err := spec.Matrix(t)
	if err != nil {
		return fmt.Errorf("quant: %w", err)
	}
	weight, err := m.QuantizeLayer(spec.Name, full, nil)
	if err != nil {
		return err
	}
	packed, ok := weight.(*nn.Packed4)
	if !ok || packed.Q.Group != group {
		return fmt.Errorf("quant: %s: the method returns a %T, want 4-bit codes in groups of %d", spec.Name, weight, group)
	}
	q := packed.Q
	report.Layers = append(report.Layers, LayerReport{spec.Name, spec.Out, spec.In, relativeError(full, q)})
	groups := (spec.In + group - 1) / group
	for _, part := range []struct {
		dtype tensor.DType
		data  []byte
		cols  int
	}{
		{tensor.U8, q.Codes, (spec.In + 31) / 32 * 16},
		{tensor.F16, tensor.BytesOfU16(q.Scales), groups},
		{tensor.U8, q.Zeros, groups},
	} {
		x, err := tensor.FromBytes(part.dtype, part.data, spec.Out, part.cols)
		if err != nil {
			return fmt.Errorf("quant: %s: %w", spec.Name, err)
		}
		if err := w.Write(x); err != nil {
			return err
		}
	}
	return nil
}

// relativeError returns ‖W−Ŵ‖ / ‖W‖ in the Frobenius norm, 0 for W = 0.
func relativeError(w *tensor.Tensor, q *kernel.Q4) float64 {
	data := w.F32()
	lost, all := make([]float64, q.Rows), make([]float64, q.Rows) // squares by row
	kernel.Parallel(q.Rows, 1+(1<<13)/max(1, q.Cols), func(lo, hi int) {
		row := make([]float32, q.Cols)
		for r := lo; r < hi; r++ {
			q.Row(row, r)
			w := data[r*q.Cols : (r+1)*q.Cols]
			all[r] = float64(kernel.SumSquares(w))
			kernel.Sub(row, row, w)
			lost[r] = float64(kernel.SumSquares(row))
		}
	})
	var sumLost, sumAll float64
	for r := range lost {
		sumLost += lost[r]
		sumAll += all[r]
	}
	if sumAll == 0 {
		return 0
	}
	return math.Sqrt(sumLost / sumAll)
}

// withQuantization returns config.json with the quantization said.
func withQuantization(c *model.Config, o Options) ([]byte, error) {
	note, err := json.Marshal(map[string]any{"quant_method": "tare", "bits": o.Bits, "group_size": o.Group, "sym": o.Symmetric})
	if err != nil {
		return nil, fmt.Errorf("quant: config.json: %w", err)
	}
	c.Raw["quantization_config"] = note
	return c.JSON()
}
