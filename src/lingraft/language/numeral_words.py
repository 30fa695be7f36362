"""Words that stand for numbers in some forty languages: scales, small numbers, and what a time of day is made of.

They say what a number may have become in a translation, never that one was there: a word that means something else in
one language, too, costs at most that a loss is not seen.
"""

from __future__ import annotations

SCALES: tuple[tuple[str, tuple[int, ...]], ...] = (
    (
        r"hundreds?|hundert\w*|honderd|cents?|cien|cientos?|cem|centenas?|cento|centinai\w*|st[oa]|сто|сотн\w*"
        r"|száz\w*|hundra|hundre|hundrede|sata|sataa|yüz|seratus|ratus|trăm|مائة|مئة|مئات|صد|מאה|सौ|εκατό|sută|sute",
        (10**2,),
    ),
    (
        r"thousands?|tausend\w*|tsd\.?|duizend(?:en)?|mil|mille|mila|milhar(?:es)?|millar(?:es)?|miles"
        r"|milliers?|migliai\w*|mii|mie|tys\.?|tysiąc\w*|tysięcy|tis\.?|tisíc\w*|tisuć\w*|tisoč\w*|тыс\.?|тысяч\w*"
        r"|тис\.?|тисяч\w*|хиляд\w*|хил\.?|hiljad\w*|хиљад\w*|tusen|tusind|tuhat\w*|tuhan\w*|ezer\w*|χίλι\w*|χιλιάδ\w*|bin"
        r"|ribu|nghìn|ngàn|ألف|ألفا|آلاف|الف|هزار|ہزار|אלף|אלפי\w*|हज़ार|हज़ार|हजार|হাজার|elfu|tūkst\w*",
        (10**3,),
    ),
    (r"vạn|maan", (10**4,)),
    (r"lakhs?|लाख|লাখ|লক্ষ|லட்சம்|لاکھ", (10**5,)),
    (
        r"millions?|millionen|millioner|mio\.?|mln\.?|mill\.?|miljoen\w*|miljon\w*|miljoon\w*|millón|millon|millones"
        r"|milhão|milhões|milion\w*|milioane|milijun\w*|milijon\w*|млн\.?|миллион\w*|мільйон\w*|милион\w*|millió\w*"
        r"|εκατομμύρι\w*|εκατ\.?|milyon\w*|juta|triệu|مليون\w*|ملايين|میلیون|ملین|מיליון\w*|मिलियन|মিলিয়ন",
        (10**6,),
    ),
    (r"crores?|करोड़|करोड़|करोड|কোটি|கோடி|کروڑ", (10**7,)),
    (
        r"bn\.?|milliard\w*|miliard\w*|miljard\w*|mrd\.?|mld\.?|bilhão|bilhões|миллиард\w*|мільярд\w*|милиард\w*"
        r"|милијард\w*|млрд\.?|milijard\w*|milyar\w*|miliar|tỷ|tỉ|مليار\w*|میلیارد|ارب|מיליארד\w*|अरब|बिलियन"
        r"|δισεκατομμύρι\w*|δισ\.?",
        (10**9,),
    ),
    (r"billions?|billionen|billioner", (10**9, 10**12)),
    (
        r"billón|billones|bilión|bilion\w*|biljoen\w*|biljon\w*|трлн\.?|триллион\w*|трильйон\w*|triliun|trilyun",
        (10**12,),
    ),
    (r"trillions?|trillionen|trilyon\w*|trilhão|trilhões|تريليون", (10**12, 10**18)),
)
"""Words that multiply the number before them, or stand alone for one of them; two values where usage differs."""

JOINED_SCALES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("ร้อย", (10**2,)),
    ("พัน", (10**3,)),
    ("หมื่น", (10**4,)),
    ("แสน", (10**5,)),
    ("ล้าน", (10**6,)),
    ("[百백]", (10**2,)),
    ("[千천]", (10**3,)),
    ("[万萬만]", (10**4,)),
    ("[億亿억]", (10**8,)),
    ("[兆조]", (10**12,)),
)
"""The same of scripts that put no space between words."""

ENGLISH_SCALES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("hundred", (10**2,)),
    ("thousand", (10**3,)),
    ("lakhs?", (10**5,)),
    ("million|mln|mn", (10**6,)),
    ("crores?", (10**7,)),
    ("billion|bn", (10**9,)),
    ("trillion", (10**12,)),
)
"""Those of English, where fifty cents are fifty."""

SMALL: tuple[tuple[str, int], ...] = (
    (
        r"ten|zehn\w*|tien|diez|dez|dix|dixième|dieci|zece|dziesięć|dziesięciu|dziesiąt\w*|deset\w*|десять\w*|десят\w*"
        r"|десет\w*|tio|tionde|kymmen\w*|tíz\w*|sepuluh|mười|عشرة|عشر|ده|עשר\w*|दस|สิบ|δέκα",
        10,
    ),
    (
        r"eleven\w*|elf|elfte\w*|once|onze|onzième|undici|jedenaście|jedenast\w*|jedenáct\w*|одиннадцат\w*|одинадцят\w*"
        r"|единадесет\w*|elva|elfte|elleve|yksitoista|tizenegy\w*|on bir|sebelas|mười một|أحد عشر|إحدى عشرة|یازده"
        r"|אחת עשרה|אחד עשר|ग्यारह|สิบเอ็ด|έντεκα|unsprezece",
        11,
    ),
    (
        r"twelve|twelfth|zwölf\w*|twaalf\w*|doce|doze|douze|douzième|dodici|dwanaście|dwunast\w*|dvanáct\w*|двенадцат\w*"
        r"|дванадцят\w*|дванадесет\w*|tolv\w*|kaksitoista|tizenkét\w*|tizenkettő|on iki|dua belas|mười hai|اثنا عشر"
        r"|اثني عشر|دوازده|שתים עשרה|שנים עשר|बारह|สิบสอง|δώδεκα|doisprezece|douăsprezece|dutzend\w*|docenas?|dúzias?"
        r"|douzaines?|dozzin\w*|дюжин\w*|tuzin\w*|tuct\w*|tucet\w*|dozijn",
        12,
    ),
    (
        r"twent\w*|zwanzig\w*|twintig\w*|veinte|vinte|vingt|vingtième|venti|ventesim\w*|dwadzieścia|dwudziest\w*|dvacet\w*"
        r"|двадцат\w*|двадцят\w*|двайсет|двадесет\w*|tjugo\w*|tyve|kaksikymmentä|húsz\w*|huszadik|yirmi\w*|dua puluh"
        r"|hai mươi|عشرون|عشرين|العشرين|بیست\w*|עשרים|बीस\w*|ยี่สิบ|είκοσι|douăzeci",
        20,
    ),
    (
        r"fifteen\w*|fünfzehn\w*|vijftien\w*|quinze|quince|quindici|пятнадцат\w*|п.ятнадцят\w*|piętna\w*|patnáct\w*"
        r"|femton|femten|on beş|lima belas|mười lăm|पंद्रह|สิบห้า|δεκαπέντε|tizenöt\w*",
        15,
    ),
    (
        r"thirt\w*|dreißig\w*|dertig\w*|trente|treinta|trinta|trenta|тридцат\w*|тридцят\w*|trzydzie\w*|třicet\w*|trettio"
        r"|tredive|tretti|kolmekymmentä|harminc\w*|otuz|tiga puluh|ba mươi|ثلاثون|ثلاثين|तीस|สามสิบ|τριάντα|treizeci",
        30,
    ),
    (
        r"fort\w*|vierzig\w*|veertig\w*|quarante|cuarenta|quarenta|quaranta|сорок\w*|czterdzie\w*|čtyřicet\w*|fyrtio|førti"
        r"|neljäkymmentä|negyven\w*|kırk|empat puluh|bốn mươi|أربعون|أربعين|चालीस|สี่สิบ|σαράντα|patruzeci",
        40,
    ),
    (
        r"fift[iy]\w*|fünfzig\w*|vijftig\w*|cinquante|cincuenta|cinquenta|cinquanta|пятьдесят\w*|пятидесят\w*"
        r"|п.ятдесят\w*|pięćdzie\w*|padesát\w*|femtio|femti|viisikymmentä|ötven\w*|elli|lima puluh|năm mươi|خمسون|خمسين"
        r"|पचास|ห้าสิบ|πενήντα|cincizeci",
        50,
    ),
)
"""Numbers of two digits that are often written out."""

HALF = r"half|demie?|medi[ao]|meia|mezz[ao]|jumătate|μισή|rưỡi|buçuk|نصف|חצי|साढ़े|साढ़े|半|반|ครึ่ง"
"""Half an hour more than the hour that is named."""

HALF_TO = r"halb|halbe\w*|halv|halve|half|пол\w*|пів\w*|wpół|pół|půl|puoli|fél|setengah"
"""Half an hour less than the hour that is named."""

QUARTER = (
    r"viertel|kwart\w*|kvart\w*|quart|quarto|cuarto|четверт\w*|чверть|kwadrans|čtvrt\w*|vartti|negyed|sfert|τέταρτο"
    r"|seperempat|perempat|çeyrek|ربع|רבע|सवा|पौने|刻"
)
"""A quarter of an hour."""

TWELVE = (
    r"mittags?|mitternachts?|midi|minuit|mediodía|medianoche|meio-dia|meia-noite|mezzogiorno|mezzanotte|полд\w*|полноч\w*"
    r"|полудн\w*|полуноч\w*|опівн\w*|опівдні|południ\w*|północ\w*|poledn\w*|půlnoc\w*|middag|midnatt|middernacht|öğle\w*"
    r"|gece yarısı|tengah hari|tengah malam|trưa|nửa đêm|ظهر\w*|الظهر|منتصف|צהריים|חצות|दोपहर|आधी रात"
    r"|正午|中午|午夜|深夜|零时|零時|เที่ยง|정오|자정"
)
"""Noon and midnight."""
