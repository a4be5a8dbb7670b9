"""What only the Go types of Kubernetes' objects tell, as data: `python -m proof.kubernetes.gotypes`.

OpenAPI says what fields there are. Whether an encoder leaves a zero or an empty list out, what encoding/json calls a
field's type, which embedded struct it names, and a field's number in protobuf are in the types alone. A program over
their public modules asks them by reflection and prints what go.json and wire.json of chaos/embedded/api hold;
`schema.GoShape` and `protobuf` say what is in them, and read them.
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
HELD: Final = {name: ROOT / "chaos" / "embedded" / "api" / f"{name}.json" for name in ("go", "wire")}
CACHE: Final = Path.home() / ".cache" / "sharedfate" / f"kubernetes-{KUBERNETES}" / "gotypes"
MODULES: Final = ("api", "apiextensions-apiserver", "apimachinery", "client-go", "kube-aggregator")
PROGRAM: Final = """package main

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
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
	messages  = map[string]map[string][2]string{}
	seen      = map[reflect.Type]bool{}
	special   = map[string]string{
		"v1.Time": "time", "v1.MicroTime": "micro", "v1.Duration": "duration", "v1.FieldsV1": "raw",
		"resource.Quantity": "quantity", "intstr.IntOrString": "intorstring", "runtime.RawExtension": "raw",
	}
)

// wire is a field's kind in protobuf: * repeats it, % maps strings to it, ! marks a pointer.
func wire(t reflect.Type) string {
	if kind, found := special[t.String()]; found {
		return kind
	}
	switch t.Kind() {
	case reflect.Pointer:
		return "!" + wire(t.Elem())
	case reflect.Map:
		return "%" + wire(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "*" + wire(t.Elem())
	case reflect.Struct:
		return key(t)
	case reflect.String, reflect.Bool, reflect.Float64:
		return t.Kind().String()
	default:
		return "int"
	}
}

func message(t reflect.Type) map[string][2]string {
	fields := map[string][2]string{}
	for i := range t.NumField() {
		field := t.Field(i)
		options := strings.Split(field.Tag.Get("protobuf"), ",")
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); len(options) > 1 && name != "-" {
			fields[options[1]] = [2]string{name, wire(field.Type)}
		}
	}
	return fields
}

// key names a struct as its definition ends: core.v1.Container.
func key(t reflect.Type) string {
	parts := strings.Split(t.PkgPath(), "/")
	return strings.Join(append(slices.Clone(parts[max(0, len(parts)-2):]), t.Name()), ".")
}

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
				s.fill(declared, append(slices.Clone(via), declared.Name()))
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
	if len(s.Inline)+len(s.Keep)+len(s.Types)+len(s.Zero) > 0 {
		shapes[key(t)] = s
	}
	if fields := message(t); len(fields) > 0 && !strings.Contains(t.PkgPath(), "apiextensions") {
		messages[key(t)] = fields
	}
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
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"go": shapes, "wire": messages}); err != nil {
		panic(err)
	}
}
"""


def module_file() -> str:
    """go.mod: the types at the release that the embedded cluster answers as. Pure."""
    release = f"v0.{KUBERNETES.partition('.')[2]}"
    required = "".join(f"\tk8s.io/{module} {release}\n" for module in MODULES)
    return f"module sharedfate/gotypes\n\ngo 1.26.0\n\nrequire (\n{required})\n"


def as_file(structs: dict[str, dict[str, Any]]) -> str:
    """One struct a line, sorted, so that the next release is a readable difference. Pure."""
    lines = (
        f"{json.dumps(name)}:{json.dumps(_ordered(fields), separators=(',', ':'))}"
        for name, fields in sorted(structs.items())
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _ordered(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields by number or name; names within them too, but for a message's pairs (a name and its kind)."""

    def inside(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return dict(sorted(value.items()))
        return value if key.isdigit() else sorted(value)

    by_number = sorted(fields, key=lambda key: (int(key) if key.isdigit() else 0, key))
    return {key: inside(key, fields[key]) for key in by_number}


def read_types(folder: Path) -> dict[str, dict[str, Any]]:
    """What the compiled program tells: file -> struct (`core.v1.Container`) -> fields. Raises EnvironmentUnfit without
    Go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "go.mod").write_text(module_file())
    (folder / "main.go").write_text(PROGRAM)
    run_go(folder, "build", "-o", "gotypes", ".")
    told = subprocess.run([folder / "gotypes"], stdout=subprocess.PIPE, check=True)
    files: dict[str, dict[str, Any]] = json.loads(told.stdout)
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the data is another's")
    options = parser.parse_args()
    try:
        texts = {name: as_file(structs) for name, structs in read_types(options.cache).items()}
    except SharedfateError as error:
        print(f"proof.kubernetes.gotypes: {error}", file=sys.stderr)
        return 4
    if options.check:
        return int(any(path.read_text() != texts[name] for name, path in HELD.items()))
    for name, path in HELD.items():
        path.write_text(texts[name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
