"""Python objects as bytes, and back: the specification of the body of a message.

Participants. The **packer** (`zdl.objects.pack.pack`) turns one object into parts, the **unpacker**
(`zdl.objects.unpack.unpack`) turns parts into an equal object. Nothing here does I/O or knows the time,
and no string from the wire finds code but in a table that the receiver has filled itself.

Goals. Arrays are never copied by the packer (unless they are not contiguous) and copied once by the
unpacker. A large leaf can stay where it is: what travels is a `Ref`, a value. Whatever the bytes are,
the unpacker gives an object or raises `CannotUnpack`, in memory bounded by the bytes that came.

Parts
=====
::

    part 0        the skeleton: msgpack
    part 1 … n    the frames beside it: the raw bytes of one leaf each

The skeleton is an array of two::

    skeleton = [table, root]
    table    = [[origin, offer id, secret, bytes_total], …]     the sources of the refs within
    root     = the object

Root
====
What msgpack knows travels as it is: map (dict; keys of any kind, no key twice), array (list), str (UTF-8),
bin (bytes, bytearray, memoryview), int of 64 bits, float of 64 bits, bool, nil. The rest are extension
types, all of them flat, so that nesting is counted in maps and arrays alone:

====  ======  ===============================================================================================
code  name    payload
====  ======  ===============================================================================================
1     TUPLE   empty; stands first in an array, and nowhere else: what follows are the elements of a tuple
2     BIGINT  an int beyond 64 bits: two's complement, little endian
3     SCALAR  msgpack ``[dtype, bytes]``: a numpy scalar
4     INLINE  msgpack ``[dtype, shape, bytes]``: an array
5     SAME    msgpack ``[n]``: the very array that is the n-th INLINE (from 0) of this skeleton
6     BESIDE  msgpack ``[part, kind, dtype, shape]``: an array, or bytes, in a frame of its own
7     REF     msgpack ``[source, item, offset, length, kind, dtype, shape, name]``: an item lent by its origin;
              ``source`` is a row of the table. One field may follow where it is not empty: of a file or a folder
              ``[mode, stamp]``, of an array its ``strides``
8     ATOM    msgpack ``[number, …]``: a small value of the standard library; numbers and fields in `zdl.objects.atoms`
9     SET     empty; as TUPLE, for a set: each element once
10    FROZEN  empty; as TUPLE, for a frozenset
11    DEQUE   msgpack ``[maxlen]`` (nil: none); as TUPLE, for a deque
12    VALUE   a name, UTF-8; first in an array of two, the second of which is the plain form of a value of that type
13    SHARED  msgpack ``[n]``; first in an array of two, the second of which is a container that stands in several places;
              numbered from 0 as they begin
14    ALIAS   msgpack ``[n]``: the very container that is the n-th SHARED of this skeleton, which has ended before it
16    TENSOR  as INLINE: a tensor. INLINE and TENSOR are counted together by SAME
====  ======  ===============================================================================================

* ``dtype`` is a name of the grammar in `zdl.objects.dtypes`, numpy's own with its byte order: ``<f4``. It is
  empty, and ``shape`` with it, where ``kind`` is no array.
* ``kind`` is 0 for an array, 1 for bytes, 2 for a file, 3 for an object that is lent piece by piece (both only in REF), 4 for
  a tensor: what it says is what it says of an array, and it comes out as a tensor of torch where its receiver has not
  asked for arrays; 5 for a folder (only in REF).
* The bytes of an array are in C order, and exactly as many as dtype and shape say.
* A REF with ``strides`` is a part of an array that does not lie in one piece: a stride for each dimension of ``shape``,
  in elements, negative for a dimension that runs backwards, 0 exactly where there is one element. ``offset`` and
  ``length`` are from its lowest element to behind its highest one. No element may be named twice: it has no more
  elements than there are places from the lowest to the highest.
* Equal BESIDE, or equal REF, leaves are one object; one frame has one description. Every frame is named.
* Of the keys of one map, or the elements of one set, that are neither text, bytes, floats, bools nor nil, at most 64
  share one hash of Python's.
* What is SHARED is a list, dict, deque, set, or a value; expanded at each ALIAS, all of it must still be within the limits.
* Containers nest up to ``depth_max`` deep; the skeleton has up to ``skeleton_bytes_max`` bytes.
* The name of a VALUE is looked up in the receiver's own `TypeTable`, which both sides have filled beforehand
  (`zdl.objects.values`); it never names a class to import. A value is built last, when all else is known to be well
  formed, by a function of the receiver's; where its plain form holds refs, when these are resolved.

Any other extension type, trailing byte, missing byte, or claim that does not hold, makes the whole a
`CannotUnpack`.

Offers
======
The items that one message lends are one virtual byte stream (`zdl.objects.manifest.Manifest`): in the order
of the leaves, each at a multiple of 64 bytes, zeros between them.
"""
