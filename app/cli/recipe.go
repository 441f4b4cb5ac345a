package cli

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"

	"tare/engine/nearest"
)

// recipeFile is a flag that names a YAML file of the verb's other flags: the key
// seq_len is the flag --seq-len. Flags given on the command line win.
type recipeFile struct {
	path string
	keys map[string]any
}

// Decode implements kong.MapperValue: it reads the file.
func (r *recipeFile) Decode(ctx *kong.DecodeContext) error {
	if err := ctx.Scan.PopValueInto("file", &r.path); err != nil {
		return err
	}
	raw, err := os.ReadFile(r.path)
	if err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	r.keys, err = parseRecipe(r.path, raw)
	return err
}

// parseRecipe reads a mapping of keys to scalars, lists of scalars or mappings of
// scalars.
func parseRecipe(path string, raw []byte) (map[string]any, error) {
	var keys map[string]any
	if err := yaml.Unmarshal(raw, &keys); err != nil {
		return nil, fmt.Errorf("recipe %s: %s", path, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("recipe %s is empty: write one key: value a line", path)
	}
	return keys, nil
}

// BeforeResolve implements kong's hook: the file's values stand in for flags that were
// not given.
func (*recipeFile) BeforeResolve(ctx *kong.Context, trace *kong.Path) error {
	r, ok := ctx.FlagValue(trace.Flag).(recipeFile)
	if !ok {
		return nil
	}
	var known []string
	for _, flag := range ctx.Selected().Flags {
		if name := strings.ReplaceAll(flag.Name, "-", "_"); name != "recipe" && name != "help" {
			known = append(known, name)
		}
	}
	for _, p := range ctx.Selected().Positional {
		known = append(known, strings.ReplaceAll(p.Name, "-", "_"))
	}
	for _, key := range slices.Sorted(maps.Keys(r.keys)) {
		if slices.Contains(known, key) {
			continue
		}
		if near := nearest.Of(key, known); near != "" {
			return fmt.Errorf("recipe %s: unknown key %q, did you mean %q?", r.path, key, near)
		}
		slices.Sort(known)
		return fmt.Errorf("recipe %s: unknown key %q (known: %s)", r.path, key, strings.Join(known, ", "))
	}
	ctx.AddResolver(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		v, ok := r.keys[strings.ReplaceAll(flag.Name, "-", "_")]
		if !ok {
			return nil, nil
		}
		text, err := flagText(v)
		if err != nil {
			return nil, fmt.Errorf("recipe %s: %s: %w", r.path, flag.Name, err)
		}
		return text, nil
	}))
	return nil
}

// text returns a positional argument that the file gives, or given when it is set.
func (r *recipeFile) text(given, key string) (string, error) {
	v, ok := r.keys[key]
	if given != "" || !ok {
		return given, nil
	}
	return flagText(v)
}

// flagText writes a YAML value as it would stand on the command line.
func flagText(v any) (string, error) {
	switch v := v.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			var err error
			if parts[i], err = flagText(e); err != nil {
				return "", err
			}
		}
		return strings.Join(parts, ","), nil
	case map[string]any:
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			value, err := flagText(v[k])
			if err != nil {
				return "", err
			}
			parts = append(parts, k+"="+value)
		}
		return strings.Join(parts, ";"), nil
	case nil:
		return "", fmt.Errorf("has no value")
	}
	return fmt.Sprint(v), nil
}
