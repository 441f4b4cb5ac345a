package merge

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"tare/engine/nearest"
	"tare/engine/tensor"
)

// Limits on a recipe's text, far above what people write, so that no file makes the
// YAML parser recurse without end.
const (
	maxRecipe  = 256 << 10 // bytes
	maxLine    = 16 << 10  // bytes
	maxNesting = 64        // brackets open at once
	maxLayers  = 1 << 16   // of a slice, so that a small file asks for no endless plan
)

// refused are keys that mergekit reads and Run does not, with what to do instead.
var refused = map[string]string{
	"modules": "merging by module is not supported; list whole models under models, or slices of them",
}

// topKeys are the keys of a recipe, in the order that errors list them.
var topKeys = []string{"merge_method", "models", "slices", "base_model", "parameters", "dtype", "out_dtype",
	"tokenizer_source", "tokenizer", "chat_template"}

// inert are parameters of mergekit's that change how it computes, not what.
var inert = []string{"int8_mask"}

// ParseRecipe reads mergekit's YAML. The error names the line and key of all that
// is wrong and wraps ErrRecipe.
func ParseRecipe(text []byte) (*Recipe, error) {
	root, err := parseYAML(text)
	if err != nil {
		return nil, err
	}
	rd := &reader{recipe: &Recipe{Text: string(text)}}
	rd.top(root)
	if err := errors.Join(rd.errs...); err != nil {
		return nil, err
	}
	return rd.recipe, nil
}

// parseYAML returns the body of the only document.
func parseYAML(text []byte) (body ast.Node, err error) {
	if err := checkText(text); err != nil {
		return nil, err
	}
	defer func() { // the parser is another's: its panics are the text's faults here
		if p := recover(); p != nil {
			body, err = nil, fmt.Errorf("merge: %w: the YAML parser gave up: %v", ErrRecipe, p)
		}
	}()
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		if bad, ok := errors.AsType[yaml.Error](err); ok && bad.GetToken() != nil {
			return nil, fmt.Errorf("merge: %w: line %d: %s", ErrRecipe, bad.GetToken().Position.Line, bad.GetMessage())
		}
		return nil, fmt.Errorf("merge: %w: %w", ErrRecipe, err)
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, fmt.Errorf("merge: %w: it holds %d YAML documents with text, want one", ErrRecipe, countDocs(file))
	}
	return file.Docs[0].Body, nil
}

func countDocs(f *ast.File) (n int) {
	for _, d := range f.Docs {
		if d.Body != nil {
			n++
		}
	}
	return n
}

func checkText(text []byte) error {
	if len(text) > maxRecipe {
		return fmt.Errorf("merge: %w: %d bytes, at most %d are read", ErrRecipe, len(text), maxRecipe)
	}
	open, number := 0, 0
	for line := range bytes.Lines(text) {
		number++
		if len(line) > maxLine {
			return fmt.Errorf("merge: %w: line %d has %d bytes, at most %d are read", ErrRecipe, number, len(line), maxLine)
		}
		for _, c := range line {
			switch c {
			case '[', '{':
				open++
			case ']', '}':
				open = max(0, open-1)
			}
		}
		if open > maxNesting {
			return fmt.Errorf("merge: %w: line %d: more than %d brackets are open", ErrRecipe, number, maxNesting)
		}
	}
	return nil
}

// reader fills a recipe from YAML nodes and keeps all that is wrong.
type reader struct {
	recipe *Recipe
	errs   []error
}

func (rd *reader) fail(at ast.Node, key, format string, args ...any) {
	where := ""
	if at != nil && at.GetToken() != nil && at.GetToken().Position != nil {
		where = fmt.Sprintf("line %d: ", at.GetToken().Position.Line)
	}
	if key != "" {
		where += key + ": "
	}
	rd.errs = append(rd.errs, fmt.Errorf("merge: %w: %s%s", ErrRecipe, where, fmt.Sprintf(format, args...)))
}

// top reads the recipe's outermost keys. Parameters come last, as which are known
// depends on the method.
func (rd *reader) top(root ast.Node) {
	entries := rd.entries(root, "")
	if entries == nil {
		return
	}
	found := map[string]*ast.MappingValueNode{}
	for _, e := range entries {
		if key := keyOf(e); slices.Contains(topKeys, key) {
			found[key] = e
		} else {
			rd.strangeKey(e, key)
		}
	}
	method := found["merge_method"]
	if method == nil {
		rd.fail(root, "", "merge_method is missing (known: %s)", strings.Join(methodNames(), ", "))
		return
	}
	if !rd.method(method) {
		return
	}
	r := rd.recipe
	r.Base = rd.text(found["base_model"])
	r.DType = rd.dtype(found["dtype"])
	r.OutDType = rd.dtype(found["out_dtype"])
	r.Chat = rd.text(found["chat_template"])
	if e := found["parameters"]; e != nil {
		r.Parameters = rd.parameters(e.Value, "parameters", false)
	}
	switch models, slices := found["models"], found["slices"]; {
	case models != nil && slices != nil:
		rd.fail(slices, "slices", "stands beside models; a recipe has one of them")
	case models != nil:
		r.Slices = []Slice{{Sources: rd.sources(models, "models", false)}}
	case slices != nil:
		r.Slices = rd.slices(slices)
	default:
		rd.fail(root, "", "models is missing; list at least one, or slices")
	}
	rd.tokenizer(found["tokenizer_source"], found["tokenizer"])
	if len(rd.errs) == 0 {
		rd.complete(root, found["merge_method"])
	}
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

// strangeKey says what an outermost key that is not read may have meant.
func (rd *reader) strangeKey(e *ast.MappingValueNode, key string) {
	if why, ok := refused[key]; ok {
		rd.fail(e, key, "%s", why)
		return
	}
	for _, m := range Methods() {
		if _, ok := m.param(key); ok {
			rd.fail(e, key, "unknown key; it belongs under parameters")
			return
		}
	}
	rd.unknown(e, key, key, "key", topKeys)
}

func (rd *reader) unknown(at ast.Node, path, word, kind string, known []string) {
	if near := nearest.Of(word, known); near != "" {
		rd.fail(at, path, "unknown %s, did you mean %q?", kind, near)
		return
	}
	rd.fail(at, path, "unknown %s (known: %s)", kind, strings.Join(known, ", "))
}

func (rd *reader) method(e *ast.MappingValueNode) bool {
	name := rd.text(e)
	for _, m := range Methods() {
		if m.Name == name {
			rd.recipe.Method = m
			return true
		}
	}
	if name != "" {
		rd.unknown(e, "merge_method", name, fmt.Sprintf("method %q", name), methodNames())
	} else if len(rd.errs) == 0 {
		rd.fail(e, "merge_method", "is empty (known: %s)", strings.Join(methodNames(), ", "))
	}
	return false
}

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

// parameters reads a mapping of settings, for one model or for all.
func (rd *reader) parameters(n ast.Node, path string, ofModel bool) map[string]Setting {
	if _, ok := n.(*ast.NullNode); ok {
		return nil
	}
	m := &rd.recipe.Method
	settings := map[string]Setting{}
	for _, e := range rd.entries(n, path) {
		key := keyOf(e)
		at := path + "." + key
		p, ok := m.param(key)
		switch {
		case slices.Contains(inert, key):
		case !ok:
			rd.unknown(e, at, key, "parameter of "+m.Name, m.paramNames())
		case ofModel && !p.ByModel:
			rd.fail(e, at, "is set for the whole merge; move it to the outermost parameters")
		default:
			settings[key] = rd.setting(e.Value, at)
		}
	}
	return settings
}

func (m *Method) paramNames() []string {
	var names []string
	for _, p := range m.Params {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names
}

// setting reads a value, a gradient, or a list of values under conditions.
func (rd *reader) setting(n ast.Node, path string) Setting {
	if isMapping(n) {
		return Setting{rd.rule(n, path)}
	}
	list, ok := n.(*ast.SequenceNode)
	if !ok || len(list.Values) == 0 || !isMapping(list.Values[0]) {
		return Setting{{Values: rd.values(n, path)}}
	}
	var s Setting
	for i, v := range list.Values {
		s = append(s, rd.rule(v, fmt.Sprintf("%s[%d]", path, i)))
	}
	return s
}

func isMapping(n ast.Node) bool {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	}
	return false
}

func (rd *reader) rule(n ast.Node, path string) (r Rule) {
	for _, e := range rd.entries(n, path) {
		switch key := keyOf(e); key {
		case "filter":
			r.Filter = rd.text(e)
		case "value":
			r.Values = rd.values(e.Value, path+".value")
		default:
			rd.unknown(e, path+"."+key, key, "key", []string{"filter", "value"})
		}
	}
	if r.Values == nil {
		rd.fail(n, path, "a condition needs a value")
	}
	return r
}

// values reads one number, or a list of them, which is a gradient.
func (rd *reader) values(n ast.Node, path string) []float64 {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		return []float64{rd.number(n, path)}
	}
	if len(list.Values) == 0 {
		rd.fail(n, path, "an empty list; give at least one number")
		return []float64{0}
	}
	var v []float64
	for i, e := range list.Values {
		v = append(v, rd.number(e, fmt.Sprintf("%s[%d]", path, i)))
	}
	return v
}

// number reads a number, or a switch as 0 or 1.
func (rd *reader) number(n ast.Node, path string) float64 {
	switch n := n.(type) {
	case *ast.BoolNode:
		if n.Value {
			return 1
		}
		return 0
	case *ast.FloatNode:
		if !math.IsInf(n.Value, 0) && !math.IsNaN(n.Value) {
			return n.Value
		}
	case *ast.IntegerNode:
		switch v := n.Value.(type) {
		case int64:
			return float64(v)
		case uint64:
			return float64(v)
		}
	case *ast.StringNode: // YAML takes 1e-5 for a word
		if v, err := strconv.ParseFloat(n.Value, 64); err == nil && !math.IsInf(v, 0) && !math.IsNaN(v) {
			return v
		}
	}
	rd.fail(n, path, "%s is no finite number or true or false", describe(n))
	return 0
}

// text reads a word; an absent or empty one is "".
func (rd *reader) text(e *ast.MappingValueNode) string {
	if e == nil {
		return ""
	}
	switch n := e.Value.(type) {
	case *ast.NullNode:
		return ""
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value
	}
	rd.fail(e, keyOf(e), "%s is no text", describe(e.Value))
	return ""
}

func (rd *reader) dtype(e *ast.MappingValueNode) string {
	name := rd.text(e)
	if name == "" {
		return ""
	}
	d, err := tensor.ParseDType(name)
	if err != nil || d != tensor.F32 && d != tensor.F16 && d != tensor.BF16 {
		rd.fail(e, keyOf(e), "%q is no type to store a merge in (known: float32, float16, bfloat16)", name)
	}
	return d.String()
}

// tokenizer reads whose tokenizer the merged model has: mergekit's older key, a word,
// or its newer one.
func (rd *reader) tokenizer(source, full *ast.MappingValueNode) {
	t := &rd.recipe.Tokenizer
	t.Source = rd.text(source)
	at, key := source, "tokenizer_source"
	if full != nil {
		if source != nil {
			rd.fail(full, "tokenizer", "stands beside tokenizer_source; a recipe has one of them")
			return
		}
		at, key = full, "tokenizer.source"
		t.Source = "union"
		for _, e := range rd.entries(full.Value, "tokenizer") {
			switch word := keyOf(e); word {
			case "source":
				t.Source = rd.text(e)
			case "pad_to_multiple_of":
				if _, none := e.Value.(*ast.NullNode); !none {
					t.Multiple = rd.positive(e, "tokenizer.pad_to_multiple_of")
				}
			case "tokens":
				if _, none := e.Value.(*ast.NullNode); !none {
					rd.tokens(e)
				}
			default:
				rd.unknown(e, "tokenizer."+word, word, "key", []string{"source", "tokens", "pad_to_multiple_of"})
			}
		}
	}
	if t.Source != "" && t.Source != "base" && t.Source != "union" && !rd.recipe.lists(t.Source) {
		rd.fail(at, key, "%q is neither base, union nor a model of this recipe", t.Source)
	}
}

// lists reports whether a model is part of the recipe.
func (r *Recipe) lists(model string) bool {
	if sameModel(model, r.Base) {
		return true
	}
	for i := range r.Slices {
		for _, x := range r.Slices[i].Sources {
			if sameModel(x.Model, model) {
				return true
			}
		}
	}
	return false
}

func (rd *reader) positive(e *ast.MappingValueNode, path string) int {
	const most = 1 << 20
	v := rd.number(e.Value, path)
	if v != math.Trunc(v) || v < 1 || v > most {
		rd.fail(e, path, "want a whole number from 1 to %d", most)
		return 0
	}
	return int(v)
}

// tokens reads where single tokens' embeddings come from.
func (rd *reader) tokens(e *ast.MappingValueNode) {
	for _, entry := range rd.entries(e.Value, "tokenizer.tokens") {
		rule := TokenRule{Token: keyOf(entry), ID: -1}
		path := "tokenizer.tokens." + rule.Token
		said := false
		for _, f := range rd.entries(entry.Value, path) {
			switch key := keyOf(f); key {
			case "source":
				said = true
				if isMapping(f.Value) {
					rd.embedding(f.Value, path+".source", &rule)
				} else if rule.Model = rd.text(f); rule.Model == "" {
					rd.fail(f, path+".source", "names no model")
				}
			case "force":
				rule.Force = rd.number(f.Value, path+".force") != 0
			default:
				rd.unknown(f, path+"."+key, key, "key", []string{"source", "force"})
			}
		}
		switch {
		case !said:
			rd.fail(entry, path, "needs a source")
		case rule.Model != "" && !rd.recipe.lists(rule.Model):
			rd.fail(entry, path, "%q is no model of this recipe", rule.Model)
		}
		rd.recipe.Tokenizer.Tokens = append(rd.recipe.Tokenizer.Tokens, rule)
	}
}

// embedding reads a source that is zeros or another token of a model.
func (rd *reader) embedding(n ast.Node, path string, rule *TokenRule) {
	kind := ""
	for _, f := range rd.entries(n, path) {
		switch key := keyOf(f); key {
		case "kind":
			kind = rd.text(f)
		case "model":
			rule.Model = rd.text(f)
		case "token":
			rule.Of = rd.text(f)
		case "token_id":
			rule.ID = int(rd.number(f.Value, path+".token_id"))
		default:
			rd.unknown(f, path+"."+key, key, "key", []string{"kind", "model", "token", "token_id"})
		}
	}
	switch {
	case kind == "zero" && rule.Model == "" && rule.Of == "" && rule.ID < 0:
	case kind == "model_token" && rule.Model != "" && (rule.Of != "") != (rule.ID >= 0):
	default:
		rd.fail(n, path, "want kind: zero, or kind: model_token with a model and either token or token_id")
	}
}

// entries returns the keys of a mapping, nil with an error for anything else.
func (rd *reader) entries(n ast.Node, path string) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	rd.fail(n, path, "%s where keys and values are expected", describe(n))
	return nil
}

func keyOf(e *ast.MappingValueNode) string {
	switch k := e.Key.(type) {
	case *ast.StringNode:
		return k.Value
	case nil:
		return ""
	default:
		return k.GetToken().Value
	}
}

// describe names what stands at a node.
func describe(n ast.Node) string {
	switch n := n.(type) {
	case nil:
		return "nothing"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.NullNode:
		return "nothing"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor or alias (write the value out)"
	default:
		if tk := n.GetToken(); tk != nil {
			return fmt.Sprintf("%q", tk.Value)
		}
		return n.Type().YAMLName()
	}
}
