package tare_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The house, top to bottom. A package imports its own floor and those below.
var floors = []string{"cmd", "app", "lab", "method", "engine"}

// What stands beside the house: anyone may import it, and it imports nothing of ours.
var beside = []string{"bench"}

// The engine, bottom to top. A package imports those of earlier rows. One in the
// folder of another, as engine/text/jinja, stands in its row and serves it.
var engineRows = [][]string{
	{"engine/nearest", "engine/tensor/kernel"},
	{"engine/tensor"},
	{"engine/grad"},
	{"engine/checkpoint"},
	{"engine/text", "engine/data"},
	{"engine/nn"},
	{"engine/model"},
	{"engine/train", "engine/generate", "engine/eval"},
}

// Arrows within a row of the engine.
var engineAside = map[string][]string{
	"engine/data": {"engine/text"},
	"engine/eval": {"engine/generate"},
}

// The families that use another one's exported methods, because a paper builds on
// them.
var familyAside = map[string][]string{}

// The families whose methods work on tensors at rest or on whole gradients and so
// call kernels on slices, or share its threads. All others go through grad and nn.
var kernelUsers = []string{"method/optim", "method/quant", "method/merge", "method/optimize"}

// Names that say nothing of what a package holds.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "base", "lib"}

const module = "tare"

// source is one package of the module as its files give it, on every platform.
type source struct {
	dir     string // from the root, with slashes
	name    string
	comment bool
	imports map[string][]string // packages of the module, by the files that import them
}

// sources reads all packages of the module, tests and other modules left out.
func sources(t *testing.T) []*source {
	t.Helper()
	found := map[string]*source{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if file == "." {
				return nil
			}
			_, err := os.Stat(filepath.Join(file, "go.mod"))
			if err == nil || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		dir := path.Dir(filepath.ToSlash(file))
		if found[dir] == nil {
			found[dir] = &source{dir: dir, name: f.Name.Name, imports: map[string][]string{}}
		}
		return found[dir].add(file, f)
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []*source
	for _, s := range found {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *source) int { return strings.Compare(a.dir, b.dir) })
	return all
}

func (s *source) add(file string, f *ast.File) error {
	s.comment = s.comment || strings.TrimSpace(f.Doc.Text()) != ""
	for _, spec := range f.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if name == module {
			name += "/."
		}
		if dir, ok := strings.CutPrefix(name, module+"/"); ok {
			s.imports[dir] = append(s.imports[dir], filepath.ToSlash(file))
		}
	}
	return nil
}

// floorOf returns the number of the floor that a package stands on, from the top.
func floorOf(dir string) int {
	first, _, _ := strings.Cut(dir, "/")
	return slices.Index(floors, first)
}

// familyOf returns the method family of a package, "" for none.
func familyOf(dir string) string {
	parts := strings.Split(dir, "/")
	if parts[0] != "method" || len(parts) < 2 {
		return ""
	}
	return path.Join(parts[:2]...)
}

// rowOf returns the row of an engine package, −1 for none.
func rowOf(dir string) int {
	for ; dir != "."; dir = path.Dir(dir) {
		if at := slices.IndexFunc(engineRows, func(row []string) bool { return slices.Contains(row, dir) }); at >= 0 {
			return at
		}
	}
	return -1
}

// forbidden says why one package must not import another, or "".
func forbidden(from, to string) string {
	switch above, below := floorOf(from), floorOf(to); {
	case to == ".":
		return "the root package holds nothing"
	case slices.Contains(beside, from):
		return "it stands beside the house"
	case slices.Contains(beside, to):
		return ""
	case below < 0:
		return "it stands on no floor"
	case above > below:
		return fmt.Sprintf("the arrow points up, from %s to %s", floors[above], floors[below])
	}
	if a, b := familyOf(from), familyOf(to); a != "" && b != "" && a != b && !slices.Contains(familyAside[a], b) {
		return fmt.Sprintf("%s and %s are different families and not a pair in familyAside", a, b)
	}
	if a := familyOf(from); a != "" && to == "engine/tensor/kernel" && !slices.Contains(kernelUsers, a) {
		return fmt.Sprintf("%s is not among kernelUsers; use grad and nn", a)
	}
	if strings.HasPrefix(from, "engine/") {
		a, b := rowOf(from), rowOf(to)
		aside := slices.Contains(engineAside[from], to) || strings.HasPrefix(to, from+"/")
		if a < b || a == b && !aside {
			return "the engine's order is violated"
		}
	}
	return ""
}

func TestArrowsPointDown(t *testing.T) {
	for _, s := range sources(t) {
		if s.dir == "." {
			continue
		}
		if floorOf(s.dir) < 0 && !slices.Contains(beside, s.dir) {
			t.Errorf("%s stands on no floor (%s)", s.dir, strings.Join(floors, ", "))
			continue
		}
		if strings.HasPrefix(s.dir, "engine/") && rowOf(s.dir) < 0 {
			t.Errorf("%s has no row in engineRows: say where in the engine's order it stands", s.dir)
			continue
		}
		for to, files := range s.imports {
			if why := forbidden(s.dir, to); why != "" {
				t.Errorf("%s imports %s: %s (%s)", s.dir, to, why, strings.Join(files, ", "))
			}
		}
	}
}

// The rule itself, on arrows that a reader of the design can judge.
func TestForbidden(t *testing.T) {
	for _, arrow := range []struct {
		from, to string
		bad      bool
	}{
		{"cmd/tare", "app/cli", false},
		{"app/cli", "lab/catalog", false},
		{"app/cli", "app/web", false},
		{"lab/tuning", "method/adapt", false},
		{"method/adapt", "engine/nn", false},
		{"method/optim", "engine/tensor/kernel", false},
		{"engine/train", "engine/checkpoint", false},
		{"engine/data", "engine/text", false},
		{"engine/checkpoint", "engine/nearest", false},
		{"engine/text", "engine/text/jinja", false},
		{"app/cli", "bench", false},
		{"app/cli", "cmd/tare", true},
		{"lab/record", "app/web", true},
		{"method/adapt", "lab", true},
		{"engine/nn", "method/adapt", true},
		{"method/adapt", "method/optim", true},
		{"method/adapt", "engine/tensor/kernel", true},
		{"engine/tensor", "engine/grad", true},
		{"engine/grad", "engine/checkpoint", true},
		{"engine/text", "engine/data", true},
		{"engine/model", "engine/train", true},
		{"engine/train", "engine/eval", true},
		{"engine/text/jinja", "engine/text", true},
		{"engine/text/jinja", "engine/model", true},
		{"engine/tensor/kernel", "engine/tensor", true},
		{"bench", "engine/tensor", true},
		{"lab", ".", true},
	} {
		if why := forbidden(arrow.from, arrow.to); (why != "") != arrow.bad {
			t.Errorf("%s imports %s: %q, want forbidden %t", arrow.from, arrow.to, why, arrow.bad)
		}
	}
}

// What is listed exists, so that no list outlives what it is about.
func TestListsAreAlive(t *testing.T) {
	var listed []string
	for _, row := range engineRows {
		listed = append(listed, row...)
	}
	listed = append(listed, kernelUsers...)
	for from, to := range familyAside {
		listed = append(append(listed, from), to...)
	}
	all := sources(t)
	for _, dir := range listed {
		if !slices.ContainsFunc(all, func(s *source) bool { return s.dir == dir }) {
			t.Errorf("%s is listed in this test but is no package", dir)
		}
	}
}

func TestPackagesSayWhatTheyAre(t *testing.T) {
	for _, s := range sources(t) {
		if !s.comment {
			t.Errorf("%s has no package comment", s.dir)
		}
		for _, name := range []string{s.name, path.Base(s.dir)} {
			if slices.Contains(emptyNames, name) {
				t.Errorf("%s: the name %s says nothing of what the package holds", s.dir, name)
			}
		}
	}
}
