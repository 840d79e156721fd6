"""Plots about looking and finding: a lost thing, a found thing, a rescue, a lost way, a lost child, a strange noise, a map, a race."""

from .grammar import table

LOST = {
    "skip": 2,
    "rows": table("lost_thing a_lost", [
        ("{c_toy}", "{a_toy}"), ("{c_toy}", "{a_toy}"), ("{c_toy}", "{a_toy}"), ("{c_wear}", "{a_wear}"), ("{c_wear}", "{a_wear}"), ("{c_find}", "{a_find}"),
    ]),
    "openings": ["{h} could not find {his} {lost_thing}.", "{h} was sad. {H} had lost {his} {lost_thing}.", "\"Where is my {lost_thing}?\" asked {h}."],
    "beats": [
        ["{h} had {a_lost}. It was {his} favorite thing in the whole world.", "{p} gave {h} {a_lost}, and {he} took it everywhere.", "{H} had {a_lost} that {he} loved very much."],
        ["{One_day} {he} [went to|was playing near|walked to] {place}, and when {he} looked around, the {lost_thing} was gone.", "{One_day} {h} woke up and looked for it, but it was not there.", "But {one_day} {he} lost it."],
        ["{h} looked [under the bed|behind the door|in the kitchen]. It was not there. {H} looked [in the garden|under the chairs|on the stairs]. It was not there.", "{h} looked everywhere. {H} looked high and low, but {he} could not find it.",
         "\"Oh no!\" cried {h}. \"My {lost_thing} is gone!\"", "{h} began to cry. \"Where can it be?\" {he} asked."],
        ["{h} asked {f} for help. \"Have you seen my {lost_thing}?\" {he} asked.", "Then {a_f} came by. \"Why are you crying?\" {fhe} asked. \"I lost my {lost_thing},\" said {h}.", "{h}'s friend {f} came over. \"[Don't cry|Don't be sad|Don't worry], {hv},\" said {f}. \"We will look together.\""],
        ["\"[Let's think|Think hard],\" said {f}. \"Where did you play yesterday?\" \"Near {place}!\" said {h}.", "\"Let's go back the way you came,\" said {f}. So they walked to {place}.", "\"Let's look in {place},\" said {f}."],
        ["They looked {spot}, and there it was!", "There, {spot}, was something {color}. It was the {lost_thing}!", "{f} pointed {spot}. \"Look there!\" {fhe} said. It was the {lost_thing}!", "They looked and looked. At last, {f} found the {lost_thing} {spot}."],
        ["\"You found it!\" said {h}. \"Thank you, {f}!\"", "{h} hugged the {lost_thing}, and then {he} hugged {f}.", "{h} jumped up and down. \"Thank you, thank you!\" {he} said.", "\"Thank you for helping me,\" said {h}. \"You are a true friend.\""],
        ["?", "After that, they played together until [dinner|the sun went down|it was dark].", "\"You're welcome,\" said {f}. \"Friends help each other.\""],
    ],
    "morals": ["From that day on, {h} took good care of the {lost_thing}.", "{h} learned that it is good to ask for help.", "It is easier to find things together."],
}

FOUND = {
    "openings": ["{h} found {a_find} {spot}.", "Something was lying {spot}. {h} bent down and picked it up. It was {a_find}."],
    "beats": [
        ["{One_day} {h} was walking near {place} when {he} saw something {spot}. It was {a_find}!", "{One_day} {h} went to {place}. {view}. There, {spot}, {he} found {a_find}."],
        ["\"How pretty!\" said {h}. \"I want to keep it.\"", "{h} put it in {his} pocket. \"Finders keepers,\" {he} thought.", "\"Wow!\" said {h}. {H} had never seen such a nice {find}."],
        ["On the way home, {h} met {a_f}. The {fkind} was [crying|looking for something]. \"I lost my {c_find},\" {fhe} said.", "Then {h} heard someone crying. It was {a_f}. \"My {find} is gone,\" said {f}. \"My [grandma|grandpa|mother] gave it to me.\"",
         "Just then, {a_f} came down the path. \"Have you seen {a_find}?\" {fhe} asked."],
        ["{h} held the {find} tightly. {H} wanted to keep it. But {he} saw the tears in {f}'s eyes.", "{h} did not know what to do. {H} liked the {find} so much. But it was not {his} {find}.", "For a moment, {h} said nothing. Then {he} thought, \"How would I feel?\""],
        ["\"Is this yours?\" asked {h}, and {he} held out the {find}.", "\"Here it is,\" said {h}. \"I found it {spot}.\"", "{h} gave the {find} back. \"I think this is yours,\" {he} said."],
        ["\"Yes! Thank you!\" said {f}. {fHe} was so happy that {fhe} [danced|jumped|laughed].", "{f}'s face lit up. \"You found it! You are so honest and kind,\" {fhe} said.", "\"Oh, thank you!\" said {f}, and {fhe} gave {h} a big hug."],
        ["To say thank you, {f} gave {h} some {food}.", "\"Would you like to come to my house and play?\" asked {f}. And {h} did.", "\"You can play with it, too,\" said {f}. So they played together.", "After that, the two of them became good friends."],
    ],
    "morals": ["{h} learned that doing the right thing feels better than any {find}.", "It is good to give back what you find.", "{h} had lost {a_find}, but {he} had found a friend."],
}

RESCUE = {
    "rows": table("small trouble tool way", [
        ("a small bird", "had fallen out of its nest", "a tall ladder", "{h} climbed up slowly and put the bird back in its nest."),
        ("a kitten", "was stuck high up in a tree", "a big basket on a rope", "{f} held the rope, and {h} lifted the kitten into the basket. Down it came, safe and sound."),
        ("a baby duck", "was stuck in the mud", "a long stick", "{h} held out the stick, and the duck climbed onto it. Then they pulled it out."),
        ("a tiny mouse", "had fallen into a deep hole", "a long rope", "They let the rope down, and the mouse held on tight. Up, up, up it came."),
        ("a lamb", "was caught in a thorn bush", "a pair of thick gloves", "{h} pulled the thorns away one by one, and the lamb was free."),
        ("a fish", "was lying in a pool that was nearly dry", "a bucket of water", "They carried the fish to the river and let it go. It swam away with a splash."),
        ("a butterfly", "was caught in a spider's web", "a soft feather", "{h} touched the web very gently, and the butterfly flew free."),
        ("a baby turtle", "was lying on its back in the hot sand", "two flat pieces of wood", "They turned it over, and it crawled down to the sea."),
        ("a puppy", "was standing on a rock in the middle of the river", "a long board", "They made a bridge, and the puppy ran across it and shook itself dry."),
        ("a bee", "had fallen into the pond", "a big green leaf", "{h} held the leaf under the bee and set it on a flower to dry."),
    ]),
    "openings": ["\"Help! Help!\" {h} heard a small voice near {place}. It was {small}! It {trouble}.", "{h} heard a strange sound near {place}. {H} looked around and saw {small} that {trouble}."],
    "beats": [
        ["{One_day} {h} was walking near {place} when {he} heard a small cry. It was {small}! It {trouble}.", "{One_day} {h} went to {place}. Suddenly, {he} saw {small}. It {trouble}.", "{One_day} {h} heard a sad little sound. {H} looked around and saw {small} that {trouble}."],
        ["\"Oh no!\" said {h}. \"[We must help|I have to help it|Poor little thing]!\"", "{h} wanted to help, but {he} could not reach it.", "{h} tried to help, but {he} was too small to do it alone."],
        ["{H} ran to get {f}. \"Please come quickly!\" {he} said.", "\"I know who can help,\" thought {h}, and {he} ran to {f}'s house.", "Luckily, {f} was not far away. \"I will help you,\" said {f}."],
        ["{f} had an idea. \"We need {tool},\" {fhe} said.", "They thought for a while. Then {h} said, \"I know! We can use {tool}!\"", "Together they went and found {tool}."],
        ["{way}"],
        ["\"Hooray!\" said {f}. \"[You did it|We did it]!\"", "\"You are safe now,\" said {h} softly.", "{h} and {f} were so happy that they danced."],
        ["?", "After that, {h} often saw it near {place}, and it always came to say hello.", "It looked at them, as if to say thank you.", "{p} heard about it and was very proud. \"You have a good heart,\" said {P}."],
    ],
    "morals": ["{h} learned that even someone small can be a big help.", "It feels good to help others.", "Together, {h} and {f} had done something good."],
}

LOST_WAY = {
    "at_home": True,
    "rows": table("lure guide sign", [
        ("a blue butterfly", "an old owl", "follow the stream"), ("a trail of red berries", "a wise turtle", "walk toward the setting sun"), ("a little white rabbit", "a friendly squirrel", "look for the tall tree with two tops"),
        ("the sound of a bird", "a busy ant", "go around the big gray rock"), ("a shiny beetle", "a kind old deer", "keep the wind at {his} back"), ("a floating feather", "a tiny mouse", "follow the little white stones"),
        ("a firefly", "the round yellow moon", "walk where the light was"),
    ]),
    "not_at": ("the village", "the farm", "the park", "the garden"),
    "openings": ["{h} wanted to see more of the world. {H} saw {lure} and followed it, on and on.", "\"Do not go too far,\" said {P}. But {h} was not listening. {H} saw {lure} and ran after it.", "{h} followed {lure}. {H} did not look back."],
    "beats": [
        ["{One_day} {h} saw {lure} and followed it. {H} went on and on, and {he} did not look back.", "{One_day} {h} went for a walk near {place}. {H} saw {lure} and ran after it."],
        ["When {he} stopped, {he} did not know where {he} was.", "Soon all the trees looked the same. {h} was lost!", "Then {he} looked around. Where was the path? Where was home?"],
        ["It was getting dark, and {h} began to cry.", "{h} was scared. \"I want to go home,\" {he} said.", "{h} called for {p}, but nobody answered.", "{h} sat down {spot} and tried to be brave."],
        ["Just then, {he} heard a voice. It was {guide}. \"Why are you sad, little one?\"", "Then {guide} appeared. \"Are you lost?\" it asked. {h} nodded.", "\"Who is there?\" asked {h}. \"It is only me,\" said {guide}."],
        ["\"I cannot find my way home,\" said {h}.", "{h} wiped {his} eyes and told it everything."],
        ["\"Do not be afraid,\" it said. It told {him} to {sign}.", "\"I can help you,\" it said. \"You just have to be brave.\" Then it told {him} to {sign}."],
        ["So {h} did. {H} walked and walked, and at last {he} saw a light. It was home!", "{h} did just that. Step by step, {he} came closer, and then {he} saw {his} own front door.", "{h} said thank you and went on {his} way. Soon {he} heard {p} calling {his} name."],
        ["{P} ran out and hugged {him}. \"I was so worried!\" {phe} said.", "{P} was waiting. \"You are home!\" {phe} said, and held {him} close.", "{P} gave {him} [a warm dinner|a cup of hot milk|a big hug] and put {him} to bed."],
    ],
    "morals": ["{h} promised to stay on the path next time.", "{h} learned to listen to {p}.", "Home had never felt so good."],
}

LOST_CHILD = {
    "rows": table("baby mother call where", [
        ("a baby bird", "the mother bird", "Cheep, cheep", "in a nest on a low branch"), ("a little lamb", "the mother sheep", "Baa, baa", "by the gate of the farm"), ("a duckling", "the mother duck", "Quack, quack", "on the far side of the pond"),
        ("a baby fox", "the mother fox", "Yip, yip", "at the door of her den"), ("a small kitten", "the mother cat", "Meow, meow", "in the old barn"), ("a baby bear", "the mother bear", "Grr, grr", "near the berry bushes"),
        ("a chick", "the mother hen", "Peep, peep", "in the yard behind the house"), ("a little piglet", "the mother pig", "Oink, oink", "in the straw"),
    ]),
    "openings": ["\"{call}!\" {h} heard the sound and looked around. It was {baby}.", "{h} saw {baby} all alone {spot}. \"{call},\" it said."],
    "beats": [
        ["{One_day} {h} met {baby} near {place}. \"{call},\" it said. It was lost.", "{One_day} {h} heard a small voice {spot}. \"{call}!\" It was {baby}."],
        ["\"Where is your mother?\" asked {h}. But the little one only cried.", "\"I cannot find my mother,\" it cried. \"Do not cry,\" said {h}. \"I will help you.\"", "{h} picked it up very gently. \"We will find your mother,\" {he} said."],
        ["First they asked [a cow|a goat|an old frog]. \"I have not seen her,\" it said. Then they asked [a goose|a snail|a crow]. \"I have not seen her,\" it said.", "They looked in {place}, but she was not there. They looked behind the hill, but she was not there.",
         "They walked and walked. The little one was tired, so {h} carried it."],
        ["Then they met {f}, {h}'s friend. \"I just saw {mother},\" said {f}. \"She was {where}.\"", "{h} stopped and listened. Far away, someone was calling, \"{call}!\" It came from somewhere not far away.", "\"Listen!\" said {h}. \"{call}!\" It came from somewhere near."],
        ["They ran as fast as they could. And there was {mother}, {where}.", "They followed the sound, and there, {where}, was {mother}."],
        ["The little one ran to its mother, and she [kissed|hugged|held] it.", "\"My baby!\" cried {mother}. \"I looked for you everywhere!\""],
        ["\"Thank you, {hv},\" said {mother}. \"You are very kind.\"", "\"How can I thank you?\" asked {mother}. \"I am just happy that you are together,\" said {h}.", "They thanked {h} again and again."],
    ],
    "morals": ["{h} went home and hugged {p}.", "It is good to help someone who is lost.", "{h} was happy that {he} had helped."],
}

NOISE = {
    "night": True, "at_home": True,
    "rows": table("noise cause kind_act", [
        ("Tap, tap, tap", "a branch that was touching the window", "They moved the branch, and everything was quiet."), ("Scratch, scratch", "a hungry little mouse", "They gave it a piece of cheese, and it squeaked happily."),
        ("Hoo, hoo", "an owl in the tree", "\"Good evening,\" said the owl, and it flew off into the night."), ("Drip, drop, drip", "the rain, falling into an old bucket", "They turned the bucket over, and the sound stopped."),
        ("Bump, bump", "a hedgehog looking for something to eat", "They put out a bowl of water and some {food} for it."), ("Meow", "a cold, wet kitten", "They dried it with a towel and gave it some milk."),
        ("Knock, knock", "{a_f}, who had come to visit", "They let {fhim} in and drank hot tea together."), ("Whoosh", "the wind in the chimney", "\"It is only the wind singing,\" said {P}."),
    ]),
    "openings": ["\"{noise}!\" {h} sat up in bed. What was that?", "{noise}. {noise}. {h} could hear a strange noise."],
    "beats": [
        ["One night, {h} was in bed when {he} heard a noise. \"{noise}!\"", "One evening, {h} heard something strange. \"{noise}!\" it went.", "It was late, and the house was dark. Suddenly, {h} heard a sound. \"{noise}!\""],
        ["\"What is that?\" whispered {h}. {H} pulled the blanket over {his} head.", "{h} held {his} breath. There it was again. \"{noise}!\"", "\"Maybe it is a monster,\" thought {h}. {His} heart beat very fast."],
        ["{h} ran to {p}. \"There is something out there,\" {he} said.", "{h} called {p}, and {phe} came with a lamp.", "\"{P}, I am scared,\" said {h}. \"Let us go and see,\" said {P}."],
        ["Hand in hand, they went to look. Step, step, step. They opened the door very slowly.", "They walked on the tips of their toes. {h} held {P}'s hand tightly."],
        ["There was no monster. It was only {cause}!", "And what did they see? It was {cause}!"],
        ["{h} laughed and laughed. {kind_act}", "{kind_act}", "\"Is that all?\" said {h}. {kind_act}"],
        ["Then {h} went back to bed and slept until morning.", "{h} was not scared anymore, and {he} soon fell asleep.", "\"Good night, {hv},\" said {P}. And {h} slept well."],
    ],
    "morals": ["{h} learned that things are less scary when you look at them.", "Many scary things are not scary at all."],
}

TREASURE = {
    "rows": table("clue_a clue_b prize", [
        ("the big oak tree", "the flat rock by the river", "a box full of old toys and a note that said, \"For the one who finds me\""), ("the old stone wall", "the broken bridge", "a big jar of candy"),
        ("the old mill", "the hollow log", "a bag of shiny glass beads"), ("the well", "the tallest pine tree", "a book full of wonderful stories"), ("the red gate", "the cave behind the waterfall", "a small chest with golden coins made of chocolate"),
        ("the scarecrow in the field", "the boat on the shore", "a silver bell with a beautiful sound"), ("the three white birch trees", "the top of the hill", "a picnic basket. And {p} was sitting beside it and laughing"),
    ]),
    "openings": ["{h} wanted to find a treasure. And then, {one_time}, {he} found an old map {spot}.", "{h} found an old map [in the attic|in a book|under the stairs]. There was a red cross on it."],
    "beats": [
        ["{One_day} {h} found an old map {spot}. There was a big red cross on it.", "{One_day} {h} was cleaning {his} room when a piece of paper fell out of a book. It was a map!", "{One_day} a bottle came floating down the river. There was a map in it, and {h} pulled it out."],
        ["\"A treasure!\" said {h}. {H} ran to tell {his} friend {f}.", "{h} showed it to {his} friend {f}. \"Let's go and find the treasure!\" {he} said."],
        ["First the map led them to {clue_a}. {view}. Then it led them to {clue_b}.", "They walked to {clue_a} and turned left. Then they counted [ten|twenty|thirty] steps, until they came to {clue_b}."],
        ["\"I am tired,\" said {f}. \"Let's not give up now,\" said {h}.", "It was a long way, and they had to stop and rest.", "\"Are we there yet?\" asked {f}. \"Almost,\" said {h}, looking at the map.", "Once they took the wrong path and had to go back."],
        ["At last, they saw a cross made of [sticks|stones|two branches]. They dug and dug.", "\"Here is the cross!\" said {h}. They began to dig with their hands."],
        ["Then they hit something hard. It was {prize}!", "And what did they find? It was {prize}!"],
        ["\"We did it!\" they shouted.", "They [shared it all|looked at each other and laughed].", "\"I could never have found it without you,\" said {h}. \"Me neither,\" said {f}."],
    ],
    "morals": ["But the best part was the adventure with a friend.", "{h} thought, \"The real treasure is a good friend.\"", "They talked about it for a long, long time."],
}

RACE = {
    "rows": table("contest stumble", [
        ("a race around the lake", "fell over a root and hurt {fhis} leg"), ("a race to the top of the hill", "slipped and rolled into a ditch"), ("a boat race on the river", "hit a rock, and {fhis} boat began to sink"),
        ("a big race in the village", "tripped and could not get up"), ("a race through the forest", "got caught in a thorn bush"), ("a sled race in the snow", "crashed into a big pile of snow"),
    ]),
    "openings": ["{h} wanted to win the race. Everyone had come to see {contest}.", "Today was the day of the big race. It was {contest}, and {h} wanted to win."],
    "beats": [
        ["{One_day} there was {contest}. {h} wanted to win.", "{One_day} everyone came together for {contest}. The winner would get a golden cup.", "Every year there was {contest}, and {h} had practiced for weeks."],
        ["\"I will win,\" said {a_f}. \"I am the fastest of all.\"", "{f} laughed. \"You are too slow,\" {fhe} said to {h}.", "{h} stood next to {f} at the start. {His} heart was beating fast."],
        ["\"Ready, set, go!\" And off they went.", "\"One, two, three, go!\" They ran as fast as they could."],
        ["{f} was in front. {h} was right behind {fhim}. Then {f} {stumble}.", "{h} did {his} best. Halfway there, {f} {stumble}."],
        ["{h} could see the finish. {H} could win now! But {he} heard {f} crying. {H} stopped and turned around.", "\"Help!\" cried {f}. {h} looked at the finish, and then {he} looked at {f}. {H} went back."],
        ["\"Take my hand,\" said {h}. {H} helped {fhim} up, and they went on together.", "{h} helped {f} and stayed with {fhim}. Slowly, they went to the finish side by side."],
        ["Someone else won the race. But everyone clapped for {h}.", "They came in last, but everyone cheered loudly for them both."],
        ["\"Why did you help me?\" asked {f}. \"Because that is more important than winning,\" said {h}.", "\"I am sorry that I was mean,\" said {f}. \"Can we be friends?\" \"Yes,\" said {h}.", "The old mayor gave {h} a prize for [kindness|the biggest heart]."],
    ],
    "morals": ["{h} learned that being kind is better than winning.", "{h} did not win the cup, but {he} won a friend."],
}

PLOTS = {"lost": LOST, "found": FOUND, "rescue": RESCUE, "lost_way": LOST_WAY, "lost_child": LOST_CHILD, "noise": NOISE, "treasure": TREASURE, "race": RACE}
