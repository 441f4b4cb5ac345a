package merge

import (
	"fmt"
	"math"
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// sources reads models, or slices of them with their layers.
func (rd *reader) sources(e *ast.MappingValueNode, path string, ofSlice bool) (found []Source) {
	list, ok := e.Value.(*ast.SequenceNode)
	if !ok || len(list.Values) == 0 {
		rd.fail(e, path, "want a list of at least one model")
		return nil
	}
	known := []string{"model", "parameters"}
	if ofSlice {
		known = append(known, "layer_range")
	}
	for i, v := range list.Values {
		path := fmt.Sprintf("%s[%d]", path, i)
		var s Source
		for _, f := range rd.entries(v, path) {
			switch key := keyOf(f); {
			case key == "model":
				s.Model = rd.text(f)
			case key == "parameters":
				s.Parameters = rd.parameters(f.Value, path+".parameters", true)
			case key == "layer_range" && ofSlice:
				s.Layers = rd.layers(f, path+".layer_range")
			default:
				rd.unknown(f, path+"."+key, key, "key", known)
			}
		}
		if s.Model == "" {
			rd.fail(v, path, "names no model; write `model: FOLDER`")
		}
		if ofSlice && s.Layers == nil {
			rd.fail(v, path, "a source of a slice needs a layer_range of two layers, from and up to without")
		}
		found = append(found, s)
	}
	return found
}

// slices reads the runs of layers that make the merged model.
func (rd *reader) slices(e *ast.MappingValueNode) (found []Slice) {
	list, ok := e.Value.(*ast.SequenceNode)
	if !ok || len(list.Values) == 0 {
		rd.fail(e, "slices", "want a list of at least one slice")
		return nil
	}
	for i, v := range list.Values {
		path := fmt.Sprintf("slices[%d]", i)
		var s Slice
		for _, f := range rd.entries(v, path) {
			switch key := keyOf(f); key {
			case "sources":
				s.Sources = rd.sources(f, path+".sources", true)
			case "base_model":
				s.Base = rd.text(f)
			case "parameters":
				s.Parameters = rd.parameters(f.Value, path+".parameters", false)
			default:
				rd.unknown(f, path+"."+key, key, "key", []string{"sources", "parameters", "base_model"})
			}
		}
		for _, x := range s.Sources {
			if first := s.Sources[0].Layers; first != nil && x.Layers != nil && x.Layers[1]-x.Layers[0] != first[1]-first[0] {
				rd.fail(v, path, "the sources have %d and %d layers; all sources of a slice have the same number", first[1]-first[0], x.Layers[1]-x.Layers[0])
				break
			}
		}
		if s.Sources == nil {
			rd.fail(v, path, "has no sources")
		}
		found = append(found, s)
	}
	return found
}

// layers reads a layer_range.
func (rd *reader) layers(e *ast.MappingValueNode, path string) *[2]int {
	v := rd.values(e.Value, path)
	if len(v) != 2 || v[0] != math.Trunc(v[0]) || v[1] != math.Trunc(v[1]) || v[0] < 0 || v[1] <= v[0] || v[1] > maxLayers {
		rd.fail(e, path, "want two numbers of layers, from and up to without, as [0, 16]")
		return nil
	}
	return &[2]int{int(v[0]), int(v[1])}
}

// complete adds the base to whole models that leave it out, as mergekit does, and
// checks that the method can do with what is listed.
func (rd *reader) complete(root ast.Node, method *ast.MappingValueNode) {
	r := rd.recipe
	m := r.Method
	for i := range r.Slices {
		s := &r.Slices[i]
		base := r.base(s)
		if m.Base == BaseRequired && base == "" {
			rd.fail(method, "merge_method", "%s needs a base_model", m.Name)
			return
		}
		listed := slices.ContainsFunc(s.Sources, func(x Source) bool { return sameModel(x.Model, base) })
		if base != "" && !listed && s.Sources[0].Layers == nil {
			if _, weighs := m.param("weight"); weighs && m.Base == BaseIsModel && r.Parameters["weight"] == nil {
				rd.fail(root, "base_model", "%s has no base and merges %s as one more model; list it under models with a weight", m.Name, base)
				return
			}
			s.Sources = append(s.Sources, Source{Model: base})
		} else if base != "" && !listed && m.Base != BaseIsModel {
			rd.fail(root, fmt.Sprintf("slices[%d]", i), "the base_model %s is not among the sources; list it with its layer_range", base)
			return
		}
		rd.count(root, i)
	}
}

// count checks how many models a slice merges, and that none comes twice.
func (rd *reader) count(root ast.Node, slice int) {
	m, s := rd.recipe.Method, &rd.recipe.Slices[slice]
	models, beside := 0, ""
	if m.Base != BaseIsModel {
		beside = " beside the base"
	}
	for i, x := range s.Sources {
		if m.Base == BaseIsModel || !sameModel(x.Model, rd.recipe.base(s)) {
			models++
		}
		if !m.Repeat && slices.ContainsFunc(s.Sources[:i], func(y Source) bool { return sameModel(x.Model, y.Model) }) {
			rd.fail(root, "", "%s merges different models, and %s is listed twice", m.Name, x.Model)
		}
	}
	where := "models"
	if s.Sources[0].Layers != nil {
		where = fmt.Sprintf("slices[%d]", slice)
	}
	switch {
	case models < m.Least:
		rd.fail(root, where, "%s needs at least %d%s, %d listed", m.Name, m.Least, beside, models)
	case m.Most > 0 && models > m.Most:
		rd.fail(root, where, "%s takes at most %d%s, %d listed", m.Name, m.Most, beside, models)
	}
}
