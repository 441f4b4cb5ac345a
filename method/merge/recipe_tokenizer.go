package merge

import (
	"math"

	"github.com/goccy/go-yaml/ast"
)

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
