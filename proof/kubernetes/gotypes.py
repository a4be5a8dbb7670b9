"""What only the Go types of Kubernetes' objects tell, as data: `python -m proof.kubernetes.gotypes`.

OpenAPI says what fields there are. Whether an encoder leaves a zero or an empty list out, what encoding/json calls a
field's type, and which embedded struct it names are in the types alone. A program over their public modules asks them
by reflection and prints what chaos/embedded/api/go.json holds; `schema.GoShape` says what is in it, and reads it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from chaos.errors import SharedfateError
from proof.kubernetes.build import KUBERNETES, run_go

ROOT: Final = Path(__file__).resolve().parents[2]
HELD: Final = ROOT / "chaos" / "embedded" / "api" / "go.json"
CACHE: Final = Path.home() / ".cache" / "sharedfate" / f"kubernetes-{KUBERNETES}" / "gotypes"
MODULES: Final = ("api", "apiextensions-apiserver", "apimachinery", "client-go", "kube-aggregator")
PROGRAM: Final = """package main

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"

	extensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	aggregator "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

type shape struct {
	Inline map[string]string `json:"inline,omitempty"`
	Keep   []string          `json:"keep,omitempty"`
	Types  map[string]string `json:"types,omitempty"`
	Zero   []string          `json:"zero,omitempty"`
}

var (
	marshaler = reflect.TypeFor[json.Marshaler]()
	released  = regexp.MustCompile(`/v[0-9]+$`)
	shapes    = map[string]*shape{}
	seen      = map[reflect.Type]bool{}
)

// ownJSON reports whether a type writes itself: to encoding/json it has no fields.
func ownJSON(t reflect.Type) bool {
	return t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler)
}

// spelling is a type's name where encoding/json's errors have one that the schema does not.
func spelling(t reflect.Type) string {
	bare := t
	if t.Name() == "" && t.Kind() == reflect.Slice {
		bare = t.Elem()
	}
	scalar := bare.Kind() != reflect.Struct && bare.Kind() != reflect.Pointer && bare.Kind() != reflect.Interface
	if bare.PkgPath() == "" || !scalar {
		return ""
	}
	return t.String()
}

func (s *shape) fill(t reflect.Type, via []string) {
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		declared := field.Type
		for declared.Kind() == reflect.Pointer {
			declared = declared.Elem()
		}
		if field.Anonymous && name == "" {
			walk(declared)
			if declared.Name() != "TypeMeta" {
				s.fill(declared, append(append([]string{}, via...), declared.Name()))
			}
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		walk(declared)
		if len(via) > 0 {
			s.Inline[name] = strings.Join(via, ".")
		}
		pointer := field.Type.Kind() == reflect.Pointer
		omitted := strings.Contains(options, "omitempty")
		switch declared.Kind() {
		case reflect.Struct:
		case reflect.Slice, reflect.Map:
			if pointer || !omitted {
				s.Keep = append(s.Keep, name)
			}
		default:
			if omitted && !pointer {
				s.Zero = append(s.Zero, name)
			}
		}
		if spelled := spelling(declared); spelled != "" && !ownJSON(declared) {
			s.Types[name] = spelled
		}
	}
}

func walk(t reflect.Type) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] || ownJSON(t) {
		return
	}
	seen[t] = true
	s := &shape{Inline: map[string]string{}, Types: map[string]string{}}
	s.fill(t, nil)
	parts := strings.Split(t.PkgPath(), "/")
	if len(s.Inline)+len(s.Keep)+len(s.Types)+len(s.Zero) == 0 || len(parts) < 2 {
		return
	}
	shapes[strings.Join(append(parts[len(parts)-2:], t.Name()), ".")] = s
}

func main() {
	known := runtime.NewScheme()
	for _, err := range []error{
		scheme.AddToScheme(known), extensions.AddToScheme(known), aggregator.AddToScheme(known),
	} {
		if err != nil {
			panic(err)
		}
	}
	for _, t := range known.AllKnownTypes() {
		if released.MatchString(t.PkgPath()) && !strings.HasSuffix(t.Name(), "List") {
			walk(t)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(shapes); err != nil {
		panic(err)
	}
}
"""


def module_file() -> str:
    """go.mod: the types at the release that the embedded cluster answers as. Pure."""
    release = f"v0.{KUBERNETES.partition('.')[2]}"
    required = "".join(f"\tk8s.io/{module} {release}\n" for module in MODULES)
    return f"module sharedfate/gotypes\n\ngo 1.26.0\n\nrequire (\n{required})\n"


def as_file(shapes: dict[str, Any]) -> str:
    """One struct a line, sorted, so that the next release is a readable difference. Pure."""
    lines = (
        f"{json.dumps(name)}:{json.dumps({key: _sorted(value) for key, value in shape.items()}, separators=(',', ':'))}"
        for name, shape in sorted(shapes.items())
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _sorted(value: list[str] | dict[str, str]) -> list[str] | dict[str, str]:
    return dict(sorted(value.items())) if isinstance(value, dict) else sorted(value)


def read_types(folder: Path) -> dict[str, Any]:
    """What the compiled program tells, by struct (`core.v1.Container`). Raises EnvironmentUnfit without Go."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "go.mod").write_text(module_file())
    (folder / "main.go").write_text(PROGRAM)
    run_go(folder, "build", "-o", "gotypes", ".")
    told = subprocess.run([folder / "gotypes"], stdout=subprocess.PIPE, check=True)
    shapes: dict[str, Any] = json.loads(told.stdout)
    return shapes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the data is another's")
    options = parser.parse_args()
    try:
        text = as_file(read_types(options.cache))
    except SharedfateError as error:
        print(f"proof.kubernetes.gotypes: {error}", file=sys.stderr)
        return 4
    if options.check:
        return int(HELD.read_text() != text)
    HELD.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
