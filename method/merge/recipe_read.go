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
